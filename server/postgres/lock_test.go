package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/store"
)

// TestDecisionsAreAppliedBeforeTheLock holds the lock while a replica asks for it that has not seen the last decisions.
func TestDecisionsAreAppliedBeforeTheLock(t *testing.T) {
	o := realTime(newSchema(t))
	s, one := newConsumer(t, openWith(t, o), store.StreamOptions{})
	conn := connect(t)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(context.Background())
	var e *engine
	known := int64(0)
	o.fault = func(point string) error {
		if point != "waits" {
			return nil
		}
		known = e.state.n
		return tx.Rollback(context.Background())
	}
	_, c := onReplica(t, openWith(t, o))
	_, err = c.Receive(t.Context(), 1, nil)
	require.NoError(t, err)
	send(t, s, store.Message{Key: "a"}, store.Message{Key: "b"})
	for range 2 {
		got, err := one.Receive(t.Context(), 1, nil)
		require.NoError(t, err)
		require.Len(t, got, 1)
	}
	e = shared(c)
	before := e.state.n
	_, err = tx.Exec(t.Context(), e.st.q(lockConsumerSQL), e.row.id)
	require.NoError(t, err)
	got, err := c.Receive(t.Context(), 1, nil)
	require.NoError(t, err)
	require.Empty(t, got)
	require.Equal(t, before+2, known)
}

// TestKeysAreReadBeforeTheLock receives from chunks of one message each.
func TestKeysAreReadBeforeTheLock(t *testing.T) {
	o := realTime(newSchema(t))
	s, _ := newConsumer(t, openWith(t, o), store.StreamOptions{})
	const chunks = 4 * readChunks
	for i := range chunks {
		send(t, s, store.Message{Key: fmt.Sprint(i)})
	}
	_, c := onReplica(t, openWith(t, o))
	e := shared(c)
	for i := range chunks {
		got, err := c.Receive(t.Context(), 1, nil)
		require.NoError(t, err)
		require.Len(t, got, 1)
		require.Equal(t, fmt.Sprint(i), got[0].Key)
		next := e.state.Next()
		require.GreaterOrEqual(t, e.ahead.end(), min(next+readChunks/2, chunks+1), "the next receive finds its keys")
		require.LessOrEqual(t, len(e.ahead.rows), 2*readChunks)
		e.shared = sharedFor
	}
	e.shared = 0
	_, err := c.Receive(t.Context(), 1, nil)
	require.NoError(t, err)
	require.Empty(t, e.ahead.rows, "it serves the consumer alone")
}

// TestKeysThatWereReadBeforeAPurgeAreForgotten purges at another replica.
func TestKeysThatWereReadBeforeAPurgeAreForgotten(t *testing.T) {
	o := realTime(newSchema(t))
	s, one := newConsumer(t, openWith(t, o), store.StreamOptions{})
	for i := range readChunks {
		send(t, s, store.Message{Key: fmt.Sprint("a", i)}, store.Message{Key: fmt.Sprint("b", i)})
	}
	_, c := onReplica(t, openWith(t, o))
	shared(c)
	_, err := c.Receive(t.Context(), 1, nil)
	require.NoError(t, err)
	_, err = s.(store.ExtendedStream).Purge(t.Context(), store.PurgeQuery{Pattern: "b3"})
	require.NoError(t, err)
	_, err = one.State(t.Context()) // it knows of the purge before the lease
	require.NoError(t, err)
	got, err := c.Receive(t.Context(), 2*readChunks, nil)
	require.NoError(t, err)
	require.Len(t, got, 2*readChunks-2)
	require.Equal(t, 2*readChunks-1, shared(c).state.Unsettled(), "the message that is gone is not leased")
}

func TestKeysAhead(t *testing.T) {
	var k keysAhead
	now := moment{1, 1}
	row := func(first int64, n int) keysRow { return keysRow{first: first, n: n} }
	k.add(now, 5, []keysRow{row(3, 4), row(7, 2)})
	require.Equal(t, int64(9), k.end())
	require.Nil(t, k.find(now, 4), "what is before the first seq that was asked for may not be all")
	require.Equal(t, int64(3), k.find(now, 5).first)
	require.Equal(t, int64(7), k.find(now, 8).first)
	require.Nil(t, k.find(now, 9))
	require.Nil(t, k.find(moment{1, 2}, 5))
	k.add(now, 9, []keysRow{row(12, 2)})
	require.Equal(t, int64(12), k.find(now, 9).first, "the chunks between are gone")
	k.forget(9)
	require.Nil(t, k.find(now, 8))
	require.Len(t, k.rows, 1)
	k.add(now, 20, []keysRow{row(20, 1)})
	require.Nil(t, k.find(now, 12), "there may be others between")
	k.add(moment{2, 1}, 21, []keysRow{row(21, 1)})
	require.Nil(t, k.find(now, 20))
	require.Nil(t, k.find(moment{2, 1}, 20))
	require.Equal(t, int64(21), k.find(moment{2, 1}, 21).first)
}

// TestAnOwnDecisionIsFoundBehindASnapshot loses the answer of a receive, and has another replica decide until there is a snapshot.
func TestAnOwnDecisionIsFoundBehindASnapshot(t *testing.T) {
	o := realTime(newSchema(t))
	s, one := newConsumer(t, openWith(t, o), store.StreamOptions{})
	send(t, s, store.Message{Key: "a"}, store.Message{Key: "b"})
	lost := false
	o.fault = func(point string) error {
		if point != "decided" || lost {
			return nil
		}
		lost = true
		for snapshots := 0; snapshots == 0; {
			got, err := one.Receive(t.Context(), 1, nil)
			require.NoError(t, err)
			require.NoError(t, one.Settle(t.Context(), []store.ID{got[0].ID}, store.Return))
			schema := quoted(o.Schema)
			require.NoError(t, connect(t).QueryRow(t.Context(), "select count(*) from "+schema+".snapshots").Scan(&snapshots))
		}
		return errors.New("the connection is lost")
	}
	_, c := onReplica(t, openWith(t, o))
	got, err := c.Receive(t.Context(), 1, nil)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.True(t, lost)
	require.NoError(t, c.Settle(t.Context(), []store.ID{got[0].ID}, store.Ack))
	rest, err := one.Receive(t.Context(), 9, nil)
	require.NoError(t, err)
	require.Len(t, rest, 1)
	require.NotEqual(t, got[0].Seq, rest[0].Seq)
}

// decideUntilSnapshots has a replica decide until it has written some snapshots.
func decideUntilSnapshots(t *testing.T, schema string, c store.Consumer, more int) {
	t.Helper()
	conn := connect(t)
	for last := int64(-1); more >= 0; {
		got, err := c.Receive(t.Context(), 1, nil)
		require.NoError(t, err)
		require.NoError(t, c.Settle(t.Context(), []store.ID{got[0].ID}, store.Return))
		var n int64
		require.NoError(t, conn.QueryRow(t.Context(), "select coalesce(max(n), 0) from "+quoted(schema)+".snapshots").Scan(&n))
		if n != last {
			last = n
			more--
		}
	}
}

// TestAnOwnDecisionIsKnownBehindManySnapshots has a replica look for its decision when the database has it no more.
func TestAnOwnDecisionIsKnownBehindManySnapshots(t *testing.T) {
	// The answer is lost at the first point after the decision was stored, and at the second before.
	for name, where := range map[string]string{"stored": "decided", "not stored": "leases"} {
		t.Run(name, func(t *testing.T) {
			o := realTime(newSchema(t))
			s, one := newConsumer(t, openWith(t, o), store.StreamOptions{})
			send(t, s, store.Message{Key: "a"}, store.Message{Key: "b"})
			lost := false
			o.fault = func(point string) error {
				if point != where || lost {
					return nil
				}
				lost = true
				if where == "leases" {
					execute(t, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'sequin' and pid <> pg_backend_pid()")
				}
				decideUntilSnapshots(t, o.Schema, one, 4)
				return errors.New("the connection is lost")
			}
			_, c := onReplica(t, openWith(t, o))
			shared(c) // then "leases" is called
			got, err := c.Receive(t.Context(), 1, nil)
			require.NoError(t, err)
			require.Len(t, got, 1)
			require.True(t, lost)
			state, err := one.State(t.Context())
			require.NoError(t, err)
			require.Len(t, state.Outstanding, 1, "the message is leased once")
			require.NoError(t, c.Settle(t.Context(), []store.ID{got[0].ID}, store.Ack))
			rest, err := one.Receive(t.Context(), 9, nil)
			require.NoError(t, err)
			require.Len(t, rest, 1)
			require.NotEqual(t, got[0].Seq, rest[0].Seq)
		})
	}
}

// TestASnapshotWithoutMakersIsAsGoodWhileNoAnswerIsLost has a replica begin with a snapshot of an older program.
func TestASnapshotWithoutMakersIsAsGoodWhileNoAnswerIsLost(t *testing.T) {
	o := realTime(newSchema(t))
	s, one := newConsumer(t, openWith(t, o), store.StreamOptions{})
	send(t, s, store.Message{Key: "a"}, store.Message{Key: "b"})
	decideUntilSnapshots(t, o.Schema, one, 1)
	var n, tag int64
	var body []byte
	require.NoError(t, connect(t).QueryRow(t.Context(), "select n, tag, body from "+quoted(o.Schema)+".snapshots").Scan(&n, &tag, &body))
	state, err := readState(false, n, tag, body)
	require.NoError(t, err)
	without := body[:len(body)-len(state.makers.appendTo(nil))]
	execute(t, "update "+quoted(o.Schema)+".snapshots set body = '\\x"+hex.EncodeToString(without)+"'")
	_, c := onReplica(t, openWith(t, o))
	for range 3 {
		got, err := c.Receive(t.Context(), 1, nil)
		require.NoError(t, err)
		require.Len(t, got, 1)
		require.NoError(t, c.Settle(t.Context(), []store.ID{got[0].ID}, store.Return))
	}
}

// TestNoTwoDecisionsHaveOneTag is what tells a decision from another one with its number, after the database has lost the first.
func TestNoTwoDecisionsHaveOneTag(t *testing.T) {
	o := realTime(newSchema(t))
	s, one := newConsumer(t, openWith(t, o), store.StreamOptions{})
	send(t, s, store.Message{Key: "a"})
	for i := range 10 {
		if i == 5 {
			shared(one) // from now on settles are stored without a look at the state
		}
		got, err := one.Receive(t.Context(), 1, nil)
		require.NoError(t, err)
		require.NoError(t, one.Settle(t.Context(), []store.ID{got[0].ID}, store.Return))
	}
	var ops, tags int
	require.NoError(t, connect(t).QueryRow(t.Context(), "select count(*), count(distinct tag) from "+quoted(o.Schema)+".ops").Scan(&ops, &tags))
	require.Greater(t, ops, 4)
	require.Equal(t, ops, tags)
}
