-- Spreads Tombolo's table over the machines of a Citus cluster (Citus 12 or newer, PostgreSQL 15 or newer), by partition: a source patient's
-- record stays on one machine, and records spread over all. Run it once on the coordinator, as the owner of the tables, after the first
-- node has made them and with no node running:
--
--     psql -v ON_ERROR_STOP=1 -v schema=tombolo -f docs/citus.sql postgres://tombolo@coordinator/tombolo
--
-- On every machine first: shared_preload_libraries = 'citus', max_prepared_transactions at least max_connections (a commit over several
-- machines is two-phase), and fsync, full_page_writes and synchronous_commit on: Tombolo can see those settings of the coordinator only.
--
-- Then give nodes the coordinator's address (--store). They notice by themselves that the table is distributed.

set search_path to :"schema";

do $$ begin
    if current_setting('max_prepared_transactions')::int = 0 then
        raise exception 'set max_prepared_transactions on every machine: without it a commit over several machines is not all or nothing';
    end if;
    if (select count(*) from pg_dist_node where isactive and noderole = 'primary') < 2 then
        raise exception 'the cluster has no workers yet: citus_add_node(…) them first';
    end if;
end $$;

-- A shard is a range of hashes of partitions. There can be no more machines than shards, and moving one is what rebalancing does.
select create_distributed_table('entry', 'part', shard_count => 64);

-- log, turn and migration stay as they are, on the coordinator, and need not be reference tables: no statement joins them with entry. The
-- log is one ordered list with one end, and turn is where all nodes meet; spreading either would gain nothing.

-- Rows that were in entry before it was distributed are left behind, hidden. This gives their room back.
select truncate_local_data_after_distributing_table('entry');

select shardid, nodename, nodeport, shard_size from citus_shards where table_name = 'entry'::regclass order by shardid;
