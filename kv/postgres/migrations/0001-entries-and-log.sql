-- Everything the store keeps: one row a key. bytea compares bytewise whatever the database's collation is.
create table entry (
    part  bytea not null,
    key   bytea not null,
    value bytea not null,
    primary key (part, key)
);

-- Names are never compressed or moved out: they are in the index. Values are compressed where they stand, so that a record is read from
-- its rows alone; only what does not fit on a page goes elsewhere.
alter table entry alter column part set storage plain;
alter table entry alter column key set storage plain;
alter table entry alter column value set storage main;
alter table entry set (toast_tuple_target = 256);
do $$ begin
    if exists (select from pg_settings where name = 'default_toast_compression' and 'lz4' = any (enumvals)) then
        alter table entry alter column value set compression lz4;
    end if;
end $$;

-- A table that mostly grows is vacuumed by share of what was added: at the usual fifth, a large one would wait for months.
alter table entry set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05);

-- The ordered log. Positions are consecutive from 1; they are given out under the lock on turn.
create table log (
    at    bigint primary key,
    value bytea not null
);

-- One row, never changed, locked by the transaction whose turn it is to commit. (A counter in it would leave a dead row behind each
-- commit, and a long snapshot would keep them all.)
create table turn (it boolean primary key check (it));
insert into turn values (true);

-- Ends the transaction unless nothing fails. A commit is sent in one piece, preconditions, writes and all; this is what stops it half way.
create function hold(failing bigint[]) returns void language plpgsql as $$
begin
    if cardinality(failing) > 0 then
        raise exception 'a precondition does not hold' using errcode = 'TK001', detail = array_to_string(failing, ',');
    end if;
end $$;
