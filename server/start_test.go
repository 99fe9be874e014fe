package server_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

const consumersRoute = "/api/streams/s/consumers"

func TestAConsumerStartsWhereItsCreatorSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, server.Config{}).withStream("", "")
		a.send("a=1", "b=2")
		time.Sleep(time.Second)
		later := time.Now()
		a.send("c=3", "d=4")
		for i, tt := range []struct {
			from string
			want int64
		}{
			{`"beginning"`, 1}, {`null`, 1}, {`0`, 1}, {`1`, 1}, {`3`, 3}, {`"3"`, 3}, {`5`, 5}, {`6`, 5}, {`"end"`, 5},
			{`"` + later.Format(time.RFC3339Nano) + `"`, 3},
			{`"` + later.Add(time.Millisecond).Format(time.RFC3339Nano) + `"`, 5},
			{`"2999-01-01T00:00:00+02:00"`, 5}, {`"1999-01-01T00:00:00Z"`, 1},
		} {
			name := fmt.Sprint("n", i)
			body := `{"name":"` + name + `","filter_key_pattern":">","start_from":` + tt.from + `}`
			shown := fmt.Sprintf(`"start_seq":%d}`, tt.want)
			require.Contains(t, a.ok("POST", consumersRoute, body), shown, tt.from)
			require.Contains(t, a.ok("GET", consumersRoute+"/"+name, ""), shown, tt.from)
			require.Contains(t, a.ok("PUT", consumersRoute+"/"+name, `{"max_deliver":3,"start_from":1}`), shown, "it cannot be changed")
			require.Len(t, a.seqsOf(consumersRoute+"/"+name+"/messages"), int(5-tt.want), tt.from)
		}
	})
}

func TestABadStartIsRefused(t *testing.T) {
	a := newAPI(t, server.Config{}).withStream("", "")
	for _, bad := range []string{`"END"`, `""`, `"now"`, `-1`, `"-1"`, `1.5`, `true`, `[]`, `{}`, `"2026-01-01"`, `"2026-01-01T00:00:00"`, `99999999999999999999`} {
		got := a.call("POST", consumersRoute, `{"name":"n","filter_key_pattern":">","start_from":`+bad+`}`)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, bad)
		require.Contains(t, got.body, `"start_from":["must be \"beginning\", \"end\", a seq, or an RFC 3339 time"]`, bad)
	}
	require.Equal(t, http.StatusNotFound, a.call("GET", consumersRoute+"/n", "").status)
}

func TestWithoutStartConsumersStartAtTheBeginning(t *testing.T) {
	for name, cfg := range map[string]server.Config{
		"switched off": {WithoutExtensions: []string{"start"}}, "2024": {Compat: server.Aug2024},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, cfg).withStream("", "")
			a.send("a=1")
			body := `{"name":"n","filter_key_pattern":">","start_from":"end"}`
			require.NotContains(t, a.ok("POST", consumersRoute, body), "start_seq")
			require.Contains(t, a.ok("POST", consumersRoute+"/n/receive", `{}`), `"key":"a"`)
		})
	}
}
