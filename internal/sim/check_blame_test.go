package sim

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

const ownRefusal = `{"summary":"no"}`

// answered returns a call of w0 that ended after some seconds.
func answered(kind callKind, after int, status int, answer string) *call {
	return &call{actor: "w0", kind: kind, ended: time.Unix(int64(after), 0), order: after, whole: true, status: status, answer: []byte(answer)}
}

func TestASubscriberMayEndOnlyAfterSequinsOwnRefusals(t *testing.T) {
	receive := func(after, status int, answer string) *call { return answered(receiveCall, after, status, answer) }
	for _, row := range []struct {
		name  string
		calls []*call
		ended error
		may   bool
	}{
		{"nothing", nil, sequin.ErrUnauthorized, false},
		{"401 for 30 s", []*call{receive(1, 401, ownRefusal), receive(9, 403, ownRefusal), receive(31, 401, ownRefusal)}, sequin.ErrUnauthorized, true},
		{"401 for 29 s", []*call{receive(1, 401, ownRefusal), receive(30, 401, ownRefusal)}, sequin.ErrUnauthorized, false},
		{"401 with a success in between", []*call{receive(1, 401, ownRefusal), receive(9, 200, `{"data":[]}`), receive(31, 401, ownRefusal)}, sequin.ErrUnauthorized, false},
		{"401 with a page in between", []*call{receive(1, 401, ownRefusal), receive(9, 403, "<html>"), receive(31, 401, ownRefusal)}, sequin.ErrUnauthorized, false},
		{"401 without an answer in between", []*call{receive(1, 401, ownRefusal), {actor: "w0", kind: receiveCall, order: 9}, receive(31, 401, ownRefusal)}, sequin.ErrUnauthorized, true},
		{"401 of another worker", []*call{{actor: "w1"}, receive(31, 401, ownRefusal)}, sequin.ErrUnauthorized, false},
		{"401, and ended by a 404", []*call{receive(1, 401, ownRefusal), receive(31, 401, ownRefusal)}, sequin.ErrNotFound, false},
		{"404", []*call{receive(1, 404, ownRefusal)}, sequin.ErrNotFound, false},
		{"404, confirmed", []*call{receive(1, 404, ownRefusal), answered(otherCall, 2, 404, ownRefusal)}, sequin.ErrNotFound, true},
		{"404, and the consumer is there", []*call{receive(1, 404, ownRefusal), answered(otherCall, 2, 200, `{"data":{}}`)}, sequin.ErrNotFound, false},
		{"404, confirmed by a page", []*call{receive(1, 404, ownRefusal), answered(otherCall, 2, 404, "<html>")}, sequin.ErrNotFound, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := &history{rec: &recorder{calls: row.calls}}
			require.Equal(t, row.may, h.mayEnd(stop{actor: "w0", ended: row.ended}))
		})
	}
}

func TestTheLongestGapIsBetweenTheBeginAndTheEnd(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	successes := []time.Time{at(1), at(10), at(12), at(40)}
	require.Equal(t, 28*time.Second, longestGap(successes, at(0), at(50)))
	require.Equal(t, 10*time.Second, longestGap(successes, at(11), at(22)))
	require.Equal(t, 5*time.Second, longestGap(successes, at(2), at(7)))
	require.Equal(t, 5*time.Second, longestGap(nil, at(2), at(7)))
}

func TestARepeatOrAPartOfAStoredSendStoresNothing(t *testing.T) {
	send := func(key, of string) sequintest.Request {
		r := sequintest.Request{Header: http.Header{"Idempotency-Key": {key}}}
		if of != "" {
			r.Header.Set("Sequin-Part-Of", of)
		}
		return r
	}
	h := &history{rec: &recorder{}}
	known := map[string]bool{}
	require.False(t, h.isRepeat(send("a", ""), known))
	require.True(t, h.isRepeat(send("a", ""), known))
	require.True(t, h.isRepeat(send("b", "x, a"), known))
	require.True(t, h.isRepeat(send("c", "b"), known))
	require.False(t, h.isRepeat(send("d", "x"), known))
	h.rec.s.Without = []string{parts}
	require.False(t, h.isRepeat(send("e", "a"), known))
	h.rec.s = schedule{Mode: server.Aug2024}
	require.False(t, h.isRepeat(send("a", ""), known))
}

func TestAnOlderVersionIsNotStoredAfterANewerOne(t *testing.T) {
	batch := func(confirmed bool, ids ...string) storedBatch {
		b := storedBatch{publisher: "p", confirmed: confirmed}
		for _, id := range ids {
			b.messages = append(b.messages, sequintest.Message{Key: "k", Data: fmt.Sprintf(`{"id":%q}`, id)})
		}
		return b
	}
	first, second := &message{id: "1", n: 1}, &message{id: "2", n: 2}
	for _, row := range []struct {
		name   string
		stored []storedBatch
		wrong  int
	}{
		{"in order", []storedBatch{batch(true, "1"), batch(true, "2")}, 0},
		{"not in order", []storedBatch{batch(true, "2"), batch(true, "1")}, 1},
		{"in doubt, and then in parts", []storedBatch{batch(false, "1", "2"), batch(true, "1"), batch(true, "2")}, 0},
		{"again after a newer one that is known to be stored", []storedBatch{batch(false, "1"), batch(true, "2"), batch(true, "1")}, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := &history{rec: &recorder{}, stored: row.stored, bySent: map[sentRef]*message{{"p", "1"}: first, {"p", "2"}: second}}
			require.Len(t, storedInOrder(h), row.wrong)
		})
	}
}
