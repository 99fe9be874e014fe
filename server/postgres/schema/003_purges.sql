-- Purges, and where consumers start. A purge rewrites the chunks that it takes messages from, so that their data is gone.
alter table {s}.stream_heads add column purges bigint not null default 0; -- how many transactions have purged something
alter table {s}.chunks add column purged integer not null default 0, add column purged_bytes bigint not null default 0;
create index on {s}.chunks (stream_id, first_seq) include (purged, purged_bytes) where purged > 0;
alter table {s}.consumers add column start_seq bigint not null default 1;
