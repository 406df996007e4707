create table items (item_id text primary key, name text, price real, stock integer check (stock >= 0));
create table orders (order_id integer primary key, item_id text references items, count integer check (count > 0));
insert into items values ('i1', 'kettle', 24.5, 3), ('i2', 'toaster', 39, 5), ('i3', 'tea pot', 18, 0);
insert into orders values (101, 'i2', 1);
