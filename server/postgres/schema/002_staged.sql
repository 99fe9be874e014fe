-- What SendTx left for the streams. A transaction that is open for hours leaves its rows when it commits. Only then they get
-- their seqs, so that no consumer passes one over.
create table {s}.staged (
	id        bigint generated always as identity primary key,
	stream_id bigint not null,
	n         integer not null,
	bytes     bigint not null, -- of keys and data
	keys      bytea not null,
	data      bytea not null
) with (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);
alter table {s}.staged alter column keys set storage external, alter column data set storage external;
