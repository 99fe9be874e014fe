package server_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// seqsOf returns the seqs of a list or of a peek.
func (a *api) seqsOf(path string) (seqs []int64) {
	a.t.Helper()
	var answer struct {
		Data []struct {
			Seq     int64
			Message struct{ Seq int64 }
		}
	}
	require.NoError(a.t, json.Unmarshal([]byte(a.ok("GET", path, "")), &answer))
	for _, m := range answer.Data {
		seqs = append(seqs, m.Seq+m.Message.Seq)
	}
	return seqs
}

func TestAListHasBounds(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	a.send("a=1", "b=2", "c=3", "d=4", "e=5")
	for query, want := range map[string][]int64{
		"":                             {1, 2, 3, 4, 5},
		"?after_seq=3":                 {4, 5},
		"?before_seq=3":                {1, 2},
		"?after_seq=1&before_seq=4":    {2, 3},
		"?after_seq=1&limit=2":         {2, 3},
		"?before_seq=4&sort=seq_desc":  {3, 2, 1},
		"?after_seq=2&sort=seq_desc":   {5, 4, 3},
		"?after_seq=5":                 nil,
		"?after_seq=0&before_seq=0":    {1, 2, 3, 4, 5},
		"?before_seq=1":                nil,
		"?after_seq=1&key_pattern=c.>": nil,
	} {
		require.Equal(t, want, a.seqsOf(messagesRoute+query), query)
		require.Equal(t, want, a.seqsOf(peekRoute+query), query)
	}
}

func TestABadBoundIsRefused(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	for _, name := range []string{"after_seq", "before_seq"} {
		for _, bad := range []string{"-1", "x", "1.5", "", "9223372036854775808"} {
			for _, route := range []string{messagesRoute, peekRoute} {
				got := a.call("GET", route+"?"+name+"="+bad, "")
				require.Equal(t, http.StatusBadRequest, got.status, "%s=%s", name, bad)
				require.Contains(t, got.body, "Invalid `after_seq` or `before_seq`. Must be an integer from 0")
			}
		}
	}
}

func TestWithoutPagingBoundsAreNotRead(t *testing.T) {
	for _, cfg := range []server.Config{{WithoutExtensions: []string{"paging"}}, {Compat: server.Aug2024}} {
		a := newAPI(t, cfg).withStream("", "")
		a.send("a=1")
		require.Len(t, a.seqsOf(messagesRoute+"?after_seq=1000&before_seq=x"), 1)
	}
}
