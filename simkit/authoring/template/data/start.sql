-- The database at the start of each conversation. An .sqlite file, or .json documents, can stand here instead.
create table items (item_id text primary key, name text not null, price real not null, stock integer not null);
create table orders (
    order_id integer primary key, item_id text not null references items, count integer not null, status text default 'open'
);
insert into items values ('i1', 'kettle', 24.5, 3), ('i2', 'toaster', 39, 5), ('i3', 'tea pot', 18, 0);
insert into orders values (101, 'i2', 1, 'open'), (102, 'i1', 2, 'sent');
