create table orders (order_id integer primary key, item text, price real, refunded integer default 0);
insert into orders (order_id, item, price) values (7, 'kettle', 24.5), (8, 'toaster', 39);
