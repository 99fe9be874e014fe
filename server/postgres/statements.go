package postgres

import (
	"strings"

	"github.com/jackc/pgx/v5"
)

// The texts of the statements. {s} stands for the schema.

// Publishing.
const (
	lockStreamSQL     = `select trim_seq, purges, copy_state from {s}.stream_heads where id = $1 for no key update`
	topChunkSQL       = `select first_seq, n, at, trim_seq, total from {s}.chunks where stream_id = $1 order by first_seq desc limit 1`
	topMarkSQL        = `select next_seq, at, messages, bytes from {s}.marks where stream_id = $1 order by next_seq desc limit 1`
	findStreamHeadSQL = `select trim_seq, purges, copy_state from {s}.stream_heads where id = $1`
	findSendsSQL      = `select token, body, published from {s}.sends where stream_id = $1 and token = any($2) and at >= $3`
	insertSendsSQL    = `insert into {s}.sends (stream_id, token, body, published, at)
		select $1, t, b, p, $5 from unnest($2::uuid[], $3::uuid[], $4::int[]) as x (t, b, p)
		on conflict (stream_id, token) do update set body = excluded.body, published = excluded.published, at = excluded.at`
	insertChunksSQL = `insert into {s}.chunks (stream_id, first_seq, n, at, trim_seq, total, keys, data)
		select $1, f, n, $2, $3, t, k, d from unnest($4::bigint[], $5::int[], $6::bigint[], $7::bytea[], $8::bytea[]) as x (f, n, t, k, d)`
	chunkKeysSQL = `select first_seq, n, total, keys
		from {s}.chunks
		where stream_id = $1 and first_seq >= coalesce((select max(first_seq)
		from {s}.chunks
		where stream_id = $1 and first_seq <= $2), 0)
		and ($4::bytea = '' or position($4::bytea in keys) > 0)
		order by first_seq limit $3`
	// sumPurgedSQL finds by its index the chunks that messages were purged from.
	sumPurgedSQL = `select coalesce(sum(purged), 0)::bigint, coalesce(sum(purged_bytes), 0)::bigint
		from {s}.chunks where stream_id = $1 and first_seq > $2 and purged > 0`
	// upsert stores messages of a stream with one message per key, under the lock of its head. Of a key that a batch repeats
	// first and its headers are the first version, which decides whether something changes, and data the last. It returns for each message
	// whether it was there already, the size of what it replaces or -1, and whether it is stored.
	upsertSQL = `with input as (
		select key, first, data, ord, coalesce(headers, '') as headers, coalesce(first_headers, headers, '') as first_headers
		from unnest($2::text[], $3::bytea[], $4::bytea[], $8::bytea[], $9::bytea[]) with ordinality as x (key, first, data, first_headers, headers, ord)
	), known as (
		select i.*, o.seq as old, o.size, o.inserted_at, o.data is not distinct from coalesce(i.first, i.data) and o.headers = i.first_headers as same
		from input i left join lateral (
			select seq, inserted_at, data, headers, octet_length(key) + octet_length(headers) + octet_length(data) as size
			from {s}.latest l where l.stream_id = $1 and l.key = i.key limit 1
		) o on true
	), changed as (
		select k.*, $5 + row_number() over (order by ord) - 1 as seq
		from known k where not (same and old is not null and first is null) or $7
	), stored as (
		insert into {s}.latest (stream_id, seq, inserted_at, updated_at, key, headers, data)
		select $1, seq, coalesce(inserted_at, $6), $6, key, headers, data from changed order by seq
		on conflict (stream_id, key) do update
		set seq = excluded.seq, updated_at = excluded.updated_at, headers = excluded.headers, data = excluded.data
	)
	select k.ord, k.same and k.old is not null, coalesce(k.size, -1), c.ord is not null
	from known k left join changed c using (ord)`
	insertMarkSQL   = `insert into {s}.marks (stream_id, next_seq, at, messages, bytes) values ($1, $2, $3, $4, $5)`
	deleteMarkSQL   = `delete from {s}.marks where stream_id = $1 and next_seq = $2`
	oldestLatestSQL = `select seq, octet_length(key) + octet_length(headers) + octet_length(data)
		from {s}.latest
		where stream_id = $1 and seq > $2
		order by seq limit 256`
	dropLatestSQL = `with gone as (delete
		from {s}.latest
		where stream_id = $1 and seq <= $2 returning seq) insert into {s}.dropped (stream_id, seq, at)
		select $1, seq, $3 from gone`
)

// Purging.
const (
	purgedSQL       = `update {s}.stream_heads set trim_seq = greatest(trim_seq, $2), purges = purges + 1 where id = $1`
	rewriteChunkSQL = `update {s}.chunks set keys = $3, data = $4, purged = n - $5::int, purged_bytes = purged_bytes + $6::bigint
		where stream_id = $1 and first_seq = $2`
	latestKeysSQL = `select seq, key, octet_length(key) + octet_length(headers) + octet_length(data) from {s}.latest where stream_id = $1 and seq >= $2 order by seq limit $3`
	purgedKeysSQL = `select distinct on (c.first_seq) c.first_seq, c.n, c.keys from unnest($2::bigint[]) q
		cross join lateral (select first_seq, n, keys, purged from {s}.chunks
		where stream_id = $1 and first_seq <= q
		order by first_seq desc limit 1) c where c.purged > 0`
	purgeLatestSQL = `with gone as (delete from {s}.latest where stream_id = $1 and seq = any($2) returning seq)
		insert into {s}.dropped (stream_id, seq, at) select $1, seq, $3 from gone`
	updateMarkSQL = `update {s}.marks set messages = $3, bytes = $4 where stream_id = $1 and next_seq = $2`
)

// Reading messages.
const (
	// Those that read on in a stream take a text, and leave out what has no key with it. The empty text is in every key.
	chunksFromSQL = `select first_seq, n, at, keys, data
		from {s}.chunks
		where stream_id = $1 and first_seq >= coalesce((select max(first_seq)
		from {s}.chunks
		where stream_id = $1 and first_seq <= $2), 0)
		and ($4::bytea = '' or position($4::bytea in keys) > 0)
		order by first_seq limit $3`
	chunksBeforeSQL = `select first_seq, n, at, keys, data
		from {s}.chunks
		where stream_id = $1 and first_seq < $2
		and ($4::bytea = '' or position($4::bytea in keys) > 0)
		order by first_seq desc limit $3`
	chunksOfSQL = `select distinct on (c.first_seq) c.first_seq, c.n, c.at, c.keys, c.data from unnest($2::bigint[]) q
		cross join lateral (select *
		from {s}.chunks
		where stream_id = $1 and first_seq <= q
		order by first_seq desc limit 1) c`
	chunksSQL      = `select first_seq, n, at, keys, data from {s}.chunks where stream_id = $1 and first_seq = any($2)`
	chunkKeysOfSQL = `select distinct on (c.first_seq) c.first_seq, c.n, c.total, c.keys from unnest($2::bigint[]) q
		cross join lateral (select first_seq, n, total, keys
		from {s}.chunks
		where stream_id = $1 and first_seq <= q
		order by first_seq desc limit 1) c`
	chunkAtSQL    = `select first_seq, at from {s}.chunks where stream_id = $1 and first_seq >= $2 order by first_seq limit 1`
	chunkTimeSQL  = `select at from {s}.chunks where stream_id = $1 and first_seq <= $2 order by first_seq desc limit 1`
	latestTimeSQL = `select updated_at from {s}.latest where stream_id = $1 and seq >= $2 order by seq limit 1`
	// countLatestSQL counts up to $3 messages.
	countLatestSQL = `select count(*) from (select from {s}.latest where stream_id = $1 and seq >= $2 limit $3) x`
	latestAtSQL    = `select seq, updated_at from {s}.latest where stream_id = $1 and seq >= $2 order by seq limit 1`
	latestFromSQL  = `select seq, inserted_at, updated_at, key, headers, data
		from {s}.latest
		where stream_id = $1 and seq >= $2 and ($4::text = '' or strpos(key, $4::text) > 0)
		order by seq limit $3`
	latestBeforeSQL = `select seq, inserted_at, updated_at, key, headers, data
		from {s}.latest
		where stream_id = $1 and seq < $2 and ($4::text = '' or strpos(key, $4::text) > 0)
		order by seq desc limit $3`
	latestOfSQL      = `select seq, inserted_at, updated_at, key, headers, data from {s}.latest where stream_id = $1 and seq = any($2)`
	latestByKeySQL   = `select seq, inserted_at, updated_at, key, headers, data from {s}.latest where stream_id = $1 and key = $2`
	aliveLatestSQL   = `select seq from {s}.latest where stream_id = $1 and seq = any($2)`
	droppedLatestSQL = `select seq from {s}.dropped where stream_id = $1 and seq = any($2)`
)

// Consumers.
const (
	// Those that lock the head also keep the commit from waiting for the disk.
	lockConsumerSQL = `select set_config('synchronous_commit', 'off', true) from {s}.consumer_heads where id = $1 for no key update`
	tryConsumerSQL  = `select set_config('synchronous_commit', 'off', true) from {s}.consumer_heads where id = $1 for no key update skip locked`
	findHeadSQL     = `select from {s}.consumer_heads where id = $1`
	// lookChunksSQL and lookLatestSQL read the clock, what the newest row says of a stream, and its head.
	lookChunksSQL = `select (extract(epoch from clock_timestamp()) * 1000000)::bigint, coalesce(c.first_seq + c.n, 1), coalesce(c.at, 0),
			greatest(c.trim_seq, h.trim_seq, 1), coalesce(c.total, 0), 0::bigint, 0::bigint, coalesce(h.purges, 0), coalesce(h.copy_state, 0)
		from (select) one
		left join (select * from {s}.chunks where stream_id = $1 order by first_seq desc limit 1) c on true
		left join {s}.stream_heads h on h.id = $1`
	lookLatestSQL = `select (extract(epoch from clock_timestamp()) * 1000000)::bigint, coalesce(m.next_seq, 1), coalesce(m.at, 0),
			greatest(h.trim_seq, 1), 0::bigint, coalesce(m.messages, 0), coalesce(m.bytes, 0), coalesce(h.purges, 0), coalesce(h.copy_state, 0)
		from (select) one
		left join (select * from {s}.marks where stream_id = $1 order by next_seq desc limit 1) m on true
		left join {s}.stream_heads h on h.id = $1`
	opsFromSQL      = `select n, tag, body from {s}.ops where consumer_id = $1 and n >= $2 order by n`
	findSnapshotSQL = `select n, tag, body from {s}.snapshots where consumer_id = $1`
	insertOpSQL     = `insert into {s}.ops (consumer_id, n, tag, body) values ($1, $2, $3, $4)`
	// insertUnseenSQL numbers a decision itself, and puts the clock in: $5, or that of the database.
	insertUnseenSQL = `insert into {s}.ops (consumer_id, n, tag, body)
		select c.id, o.n + 1, $3, $4::bytea || int8send(coalesce($5::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint)) || $6::bytea
		from {s}.consumer_heads c
		join {s}.stream_heads s on s.id = $2 and s.copy_state = 0
		join lateral (select n from {s}.ops where consumer_id = c.id order by n desc limit 1) o on true
		where c.id = $1 returning n`
	saveSnapshotSQL = `insert into {s}.snapshots (consumer_id, n, tag, body)
		values ($1, $2, $3, $4)
		on conflict (consumer_id) do update set n = excluded.n, tag = excluded.tag, body = excluded.body`
	deleteOpsSQL = `delete
		from {s}.ops
		where consumer_id = $1 and n < coalesce((select n
		from {s}.snapshots
		where consumer_id = $1), 0)`
	updateConsumerSQL = `update {s}.consumers set ack_wait = $2, max_ack_pending = $3, max_deliver = $4, max_waiting = $5, disabled = $6, updated_at = $7
		where id = $1`
	deleteConsumerSQL = `with s as (select id from {s}.streams where id = $2 and copy_state = 0 for key share)
		delete from {s}.consumer_heads where id = $1 and exists (select from s) returning id`
	limitsSQL = `select ack_wait, max_ack_pending, max_deliver from {s}.consumers where id = $1`
)

// q returns the text of a statement for the schema of the store.
func (st *Store) q(text string) string { return strings.ReplaceAll(text, "{s}", st.schema) }

// quoted returns the name of a schema as a statement has it.
func quoted(schema string) string { return pgx.Identifier{schema}.Sanitize() }
