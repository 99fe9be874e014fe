package main

import (
	"fmt"
	"strings"
)

// The tables and statements of the server of August 2024.

// tokens2024 is how many parts of a key have a column and an index.
const tokens2024 = 16

// tables2024 makes the tables.
func tables2024() string {
	var columns, indexes, names strings.Builder
	for i := 1; i <= tokens2024; i++ {
		null, where := "", fmt.Sprintf(" where token%d is not null", i)
		if i == 1 {
			null, where = " not null", ""
		} else {
			names.WriteString(", ")
		}
		fmt.Fprintf(&columns, "token%d text%s,\n", i, null)
		fmt.Fprintf(&indexes, "create index on old2024.messages (stream_id, token%d)%s;\n", i, where)
		fmt.Fprintf(&names, "token%d", i)
	}
	return strings.NewReplacer("{columns}", columns.String(), "{indexes}", indexes.String(), "{names}", names.String()).Replace(schema2024)
}

const schema2024 = `
create schema old2024;
create sequence old2024.messages_seq;
create function old2024.key_of(variadic parts text[]) returns text language plpgsql immutable as $$
declare
	whole text := '';
begin
	for i in 1 .. array_length(parts, 1) loop
		if parts[i] is not null and parts[i] <> '' then
			if whole <> '' then
				whole := whole || '.';
			end if;
			whole := whole || parts[i];
		end if;
	end loop;
	return whole;
end $$;
create function old2024.is_key(key text) returns boolean language plpgsql immutable as $$
declare
	part text;
begin
	if key is null or key = '' or key like '.%' then
		return false;
	end if;
	foreach part in array string_to_array(key, '.') loop
		if part = '' or part ~ '[.* >]' or part ~ '[^ -~]' then
			return false;
		end if;
	end loop;
	return true;
end $$;
create table old2024.messages (
	stream_id uuid not null,
	key text not null generated always as (old2024.key_of({names})) stored,
	seq bigint not null default nextval('old2024.messages_seq'),
	data text not null,
	data_hash text not null,
	{columns}
	inserted_at timestamp not null,
	updated_at timestamp not null,
	primary key (stream_id, key),
	constraint is_key check (old2024.is_key(key))
) partition by list (stream_id);
create unique index on old2024.messages (stream_id, seq);
create unique index on old2024.messages (stream_id, key);
{indexes}
create type old2024.message_state as enum ('acked', 'available', 'delivered', 'pending_redelivery');
create table old2024.consumer_messages (
	consumer_id uuid not null,
	message_key text not null,
	message_seq bigint not null,
	ack_id uuid not null default gen_random_uuid(),
	state old2024.message_state not null,
	not_visible_until timestamp,
	deliver_count integer not null default 0,
	last_delivered_at timestamp,
	inserted_at timestamp not null,
	updated_at timestamp not null,
	primary key (consumer_id, message_key)
) partition by list (consumer_id);
create unique index on old2024.consumer_messages (consumer_id, message_key);
create unique index on old2024.consumer_messages (consumer_id, ack_id);
create index on old2024.consumer_messages (message_key);
create index on old2024.consumer_messages (consumer_id);
create index on old2024.consumer_messages (consumer_id, state, not_visible_until, last_delivered_at);
`

// available2024 makes messages available to consumers. One that is on lease is delivered again after it.
const available2024 = `insert into old2024.consumer_messages as c (consumer_id, message_key, message_seq, state, updated_at, inserted_at)
	select consumer, key, seq, 'available'::old2024.message_state, now(), now()
	from unnest($1::uuid[], $2::text[], $3::bigint[]) as new (consumer, key, seq)
	on conflict (consumer_id, message_key) do update set
		state = case when c.state in ('acked', 'available') then 'available'::old2024.message_state else 'pending_redelivery' end,
		message_seq = excluded.message_seq, updated_at = now()
	where excluded.message_seq > c.message_seq`

// receive2024 leases messages: of the first $2 that are not acked, up to $4.
const receive2024 = `with found as (
		select ack_id from (
			select ack_id, state, not_visible_until from old2024.consumer_messages
			where consumer_id = $1 order by message_seq limit $2
		) pending
		where state = 'available' or state in ('delivered', 'pending_redelivery') and not_visible_until <= $3
		limit $4 for update skip locked
	), leased as (
		update old2024.consumer_messages c
		set state = 'delivered', deliver_count = c.deliver_count + 1, not_visible_until = $5, last_delivered_at = $3, updated_at = $3
		from found where c.ack_id = found.ack_id
		returning c.ack_id, c.message_key, c.message_seq
	)
	select l.ack_id, m.key, m.seq, m.data, m.inserted_at, m.updated_at
	from leased l join old2024.messages m on m.key = l.message_key and m.seq = l.message_seq`

// ack2024 are the statements of an ack, in one transaction. A message that was replaced meanwhile becomes available again.
var ack2024 = []string{
	`update old2024.consumer_messages set state = 'available', not_visible_until = null
		where consumer_id = $1 and ack_id = any($2) and state = 'pending_redelivery'`,
	`delete from old2024.consumer_messages where consumer_id = $1 and ack_id = any($2) and state = 'delivered'`,
}
