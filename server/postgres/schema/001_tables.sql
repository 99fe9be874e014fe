-- The tables of version 1. {s} stands for the schema. Times are microseconds since 1970, lengths of time are nanoseconds.

create table {s}.store (id uuid not null);
insert into {s}.store values (gen_random_uuid());

create table {s}.streams (
	id                  bigint generated always as identity primary key,
	uuid                uuid not null unique,
	name                text collate "C" not null unique,
	one_message_per_key boolean not null,
	process_unmodified  boolean not null,
	max_bytes           bigint not null,
	retain_up_to        bigint not null,
	retain_at_least     bigint not null,
	inserted_at         bigint not null
);

-- The row lock of a head orders the publishers of its stream. The row itself hardly changes, so that an old transaction,
-- which keeps old versions of rows alive, does not slow them down. What a publish changes is in the row that it inserts.
create table {s}.stream_heads (
	id       bigint primary key,
	trim_seq bigint not null default 1 -- messages below it are purged
) with (fillfactor = 40);

-- The messages of a stream that appends, at most 1,000 a row. A chunk never changes.
create table {s}.chunks (
	stream_id bigint not null,
	first_seq bigint not null,
	n         integer not null,
	at        bigint not null,
	trim_seq  bigint not null, -- no message below it is alive after this chunk
	total     bigint not null, -- bytes of keys and data of all messages up to the end of this chunk
	keys      bytea not null,
	data      bytea not null,
	primary key (stream_id, first_seq)
) with (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);
alter table {s}.chunks alter column keys set storage external, alter column data set storage external;

-- The messages of a stream that keeps one message for each key.
create table {s}.latest (
	stream_id   bigint not null,
	seq         bigint not null,
	inserted_at bigint not null,
	updated_at  bigint not null,
	key         text collate "C" not null,
	data        bytea not null, -- not text, which cannot hold NUL
	primary key (stream_id, key),
	unique (stream_id, seq)
) with (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);

-- What a stream with one message for each key holds after a publish. The newest mark counts.
create table {s}.marks (
	stream_id bigint not null,
	next_seq  bigint not null,
	at        bigint not null,
	messages  bigint not null,
	bytes     bigint not null,
	primary key (stream_id, next_seq)
) with (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);

-- Messages with one message for each key that retention has dropped, so that consumers end their leases.
create table {s}.dropped (
	stream_id bigint not null,
	seq       bigint not null,
	at        bigint not null,
	primary key (stream_id, seq)
);
create index on {s}.dropped using brin (at);

-- Successful sends of the last ten minutes.
create table {s}.sends (
	stream_id bigint not null,
	token     uuid not null,
	body      uuid not null,
	published integer not null,
	at        bigint not null,
	primary key (stream_id, token)
);
create index on {s}.sends using brin (at);

create table {s}.consumers (
	id              bigint generated always as identity primary key,
	uuid            uuid not null unique,
	stream_id       bigint not null,
	name            text collate "C" not null,
	filter          text collate "C" not null,
	ack_wait        bigint not null,
	max_ack_pending bigint not null,
	max_deliver     bigint not null,
	max_waiting     bigint not null,
	disabled        boolean not null,
	inserted_at     bigint not null,
	updated_at      bigint not null,
	unique (stream_id, name)
);

-- The row lock of a head orders the decisions about its consumer.
create table {s}.consumer_heads (id bigint primary key) with (fillfactor = 40);

-- The decisions about a consumer, in order. The tag is random: it shows a replica that Postgres has lost what it saw.
create table {s}.ops (
	consumer_id bigint not null,
	n           bigint not null,
	tag         bigint not null,
	body        bytea not null,
	primary key (consumer_id, n)
) with (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0);

-- The state of a consumer after the decision n. Decisions from the one before it on are kept.
create table {s}.snapshots (
	consumer_id bigint primary key,
	n           bigint not null,
	tag         bigint not null,
	body        bytea not null
) with (fillfactor = 40);
alter table {s}.snapshots alter column body set storage external;

-- Deleted streams and consumers that the janitor empties.
create table {s}.deleted_streams (id bigint primary key);
create table {s}.deleted_consumers (id bigint primary key);
