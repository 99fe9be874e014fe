package postgres

import (
	"time"

	"github.com/jackc/pgx/v5"
)

// startJanitor starts the goroutine that deletes what is no longer needed. Of all replicas one works at a time.
func (st *Store) startJanitor() {
	st.every(st.options.cleanEvery, func() {
		if err := st.clean(); err != nil && st.ctx.Err() == nil {
			st.options.Logger.Debug("cleaning failed and is tried again", "error", oneLine(err))
		}
	})
}

// every starts a goroutine that calls f after each period until Close. A negative period means never.
func (st *Store) every(period time.Duration, f func()) {
	if period < 0 {
		return
	}
	st.spawn(func() {
		ticker := time.NewTicker(period)
		defer ticker.Stop()
		for {
			select {
			case <-st.ctx.Done():
				return
			case <-ticker.C:
				f()
			}
		}
	})
}

const (
	// cleanRows is how many rows one statement deletes, so that none takes long.
	cleanRows = 500
	// keepDropped is how long the seqs of dropped messages are kept for consumers that have them on lease.
	keepDropped = time.Hour
)

// cleaning are the statements of the janitor. Each deletes at most $1 rows; $2 and $3 are the times before which sends and
// dropped messages are forgotten.
var cleaning = []string{
	`delete from {s}.chunks c using (
		select k.stream_id, k.first_seq from {s}.streams s
		cross join lateral (select greatest(trim_seq, (select trim_seq from {s}.stream_heads where id = s.id)) as trim, first_seq as top from {s}.chunks where stream_id = s.id order by first_seq desc limit 1) t
		cross join lateral (select stream_id, first_seq from {s}.chunks where stream_id = s.id and first_seq + n <= t.trim and first_seq < t.top order by first_seq limit $1) k
		limit $1) gone where c.stream_id = gone.stream_id and c.first_seq = gone.first_seq and $2::bigint + $3::bigint is not null`,
	`delete from {s}.sends where ctid in (select ctid from {s}.sends where at < $2 limit $1) and $3::bigint is not null`,
	`delete from {s}.dropped where ctid in (select ctid from {s}.dropped where at < $3 limit $1) and $2::bigint is not null`,
	`delete from {s}.chunks where ctid in (select c.ctid from {s}.deleted_streams d join {s}.chunks c on c.stream_id = d.id limit $1) and $2::bigint + $3::bigint is not null`,
	`delete from {s}.latest where ctid in (select c.ctid from {s}.deleted_streams d join {s}.latest c on c.stream_id = d.id limit $1) and $2::bigint + $3::bigint is not null`,
	`delete from {s}.staged where ctid in (select g.ctid from {s}.staged g where not exists (select from {s}.streams s where s.id = g.stream_id) limit $1) and $2::bigint + $3::bigint is not null`,
	`delete from {s}.marks where ctid in (select c.ctid from {s}.deleted_streams d join {s}.marks c on c.stream_id = d.id limit $1) and $2::bigint + $3::bigint is not null`,
	`delete from {s}.ops where ctid in (select c.ctid from {s}.deleted_consumers d join {s}.ops c on c.consumer_id = d.id limit $1) and $2::bigint + $3::bigint is not null`,
	`delete from {s}.snapshots where ctid in (select c.ctid from {s}.deleted_consumers d join {s}.snapshots c on c.consumer_id = d.id limit $1) and $2::bigint + $3::bigint is not null`,
}

const (
	// capEvery is how often the sends of each stream are counted, which reads all of them.
	capEvery = time.Minute
	// excessSQL returns the streams that remember more than $1 sends, and the time before which they are too old. The marks of
	// transactions do not count: they have no body.
	excessSQL = `select stream_id, at from (
			select stream_id, at, row_number() over (partition by stream_id order by at desc) as place
			from {s}.sends where body <> '00000000-0000-0000-0000-000000000000'
		) numbered where place = $1`
	forgetSQL = `delete from {s}.sends where stream_id = $1 and at < $2`
)

// capSends forgets the oldest sends of streams that remember too many.
func (st *Store) capSends(s *session) error {
	now := time.Now()
	if now.Before(st.capAt) {
		return nil
	}
	rows, err := s.conn.Query(s.ctx, st.q(excessSQL), st.options.maxSends)
	if err != nil {
		return err
	}
	b := &pgx.Batch{}
	var stream, at int64
	if _, err = pgx.ForEachRow(rows, []any{&stream, &at}, func() error {
		b.Queue(st.q(forgetSQL), stream, at)
		return nil
	}); err != nil {
		return err
	}
	st.capAt = now.Add(capEvery)
	return s.send(b)
}

// janitorLock is the advisory lock of the janitor, with the id of the schema: "clean" in ASCII.
const janitorLock = 0x636c65

// clean deletes some of what is no longer needed, and goes on until a statement finds less than it may delete.
func (st *Store) clean() error {
	s, err := st.acquire(st.ctx)
	if err != nil {
		return err
	}
	defer s.release()
	if _, err := s.conn.Exec(s.ctx, "begin"); err != nil {
		return err
	}
	var mine bool
	if err := s.conn.QueryRow(s.ctx, "select pg_try_advisory_xact_lock($1, $2::regnamespace::oid::int)", int32(janitorLock), st.schema).Scan(&mine); err != nil || !mine {
		return err
	}
	var streams, consumers []int64 // deleted before the statements began
	err = s.conn.QueryRow(s.ctx, st.q("select array(select id from {s}.deleted_streams), array(select id from {s}.deleted_consumers)")).Scan(&streams, &consumers)
	if err != nil {
		return err
	}
	if err := st.capSends(s); err != nil {
		return err
	}
	dropped := st.forgotten() + rememberFor.Microseconds() - keepDropped.Microseconds()
	emptied := true
	for _, text := range cleaning {
		tag, err := s.conn.Exec(s.ctx, st.q(text), cleanRows, st.forgotten(), dropped)
		if err != nil {
			return err
		}
		emptied = emptied && tag.RowsAffected() < cleanRows
	}
	if emptied {
		b := &pgx.Batch{}
		b.Queue(st.q("delete from {s}.deleted_streams where id = any($1)"), streams)
		b.Queue(st.q("delete from {s}.deleted_consumers where id = any($1)"), consumers)
		if err := s.send(b); err != nil {
			return err
		}
	}
	_, err = s.conn.Exec(s.ctx, "commit")
	return err
}
