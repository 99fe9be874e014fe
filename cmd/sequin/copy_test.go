package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
)

// copyShell runs "sequin copy" and keeps what a user would see. ends are the values of $SEQUIN_FROM and $SEQUIN_TO.
type copyShell struct {
	t          *testing.T
	names      []string // what is replaced in the transcript, with its replacement behind it
	transcript strings.Builder
}

// progressLines are shown of a copy that takes a second or longer.
var progressLines = regexp.MustCompile(`(?m)^\d+ messages \(\d+%\), .* a second, after .*\n`)

func (s *copyShell) run(from, to, args string) (code int, out, errors string) {
	s.t.Helper()
	code, out, errors = runNow(clitest.Environment("SEQUIN_FROM", from, "SEQUIN_TO", to), append([]string{"copy"}, strings.Fields(args)...)...)
	errors = progressLines.ReplaceAllString(errors, "")
	require.LessOrEqual(s.t, strings.Count(errors, "\n"), 1, "an error is one line")
	fmt.Fprintf(&s.transcript, "$ SEQUIN_FROM=%s SEQUIN_TO=%s sequin copy %s\n%s%s", from, to, args, out, errors)
	if code != 0 {
		fmt.Fprintf(&s.transcript, "exit code %d\n", code)
	}
	s.transcript.WriteString("\n")
	return code, out, errors
}

func (s *copyShell) golden(name string) {
	s.t.Helper()
	got := strings.NewReplacer(s.names...).Replace(s.transcript.String())
	got = regexp.MustCompile(`Postgres at [^,\n]*, database (\w+)`).ReplaceAllString(got, "Postgres at HOST, database $1")
	got = regexp.MustCompile(`in use by process [0-9]+ on [^:\n]*`).ReplaceAllString(got, "in use by process 123 on HOST")
	compare(s.t, name, uuids.ReplaceAllString(got, "00000000-0000-0000-0000-000000000000"))
}

// serveAt starts a server on a directory or on a database.
func serveAt(t *testing.T, at string) *process {
	t.Helper()
	if strings.HasPrefix(at, "postgres") {
		return start(t, clitest.Environment(postgresVariable, at))
	}
	return start(t, clitest.Environment(), "--data", at)
}

// stop stops a server.
func (p *process) stop() {
	p.t.Helper()
	p.signals <- os.Interrupt
	require.Equal(p.t, cli.ExitOK, p.wait(), p.errors.String())
}

// delivered is a delivery as the server answers it.
type delivered struct {
	AckID        string `json:"ack_id"`
	DeliverCount int    `json:"deliver_count"`
	Message      struct {
		Key  string `json:"key"`
		Data string `json:"data"`
	} `json:"message"`
}

func (p *process) receive(consumer string, n int) (all []delivered) {
	p.t.Helper()
	var answer struct{ Data []delivered }
	body := p.ok("POST", "/api/streams/"+consumer+"/receive", fmt.Sprintf(`{"batch_size":%d}`, n))
	require.NoError(p.t, json.Unmarshal([]byte(body), &answer))
	return answer.Data
}

func (p *process) ack(consumer string, all []delivered) {
	p.t.Helper()
	ids := make([]string, len(all))
	for i, d := range all {
		ids[i] = d.AckID
	}
	body, err := json.Marshal(map[string]any{"ack_ids": ids})
	require.NoError(p.t, err)
	p.ok("POST", "/api/streams/"+consumer+"/ack", string(body))
}

// TestACopyGoesBetweenAllStores takes streams from a directory to a database, to another one, and to a directory again.
func TestACopyGoesBetweenAllStores(t *testing.T) {
	one, two := newDatabase(t, "copy_one"), newDatabase(t, "copy_two")
	dir, back := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "back")
	p := serveAt(t, dir)
	p.ok("POST", "/api/streams", `{"name":"orders"}`)
	p.ok("POST", "/api/streams", `{"name":"prices","one_message_per_key":true}`)
	p.ok("POST", "/api/streams/orders/consumers", `{"name":"billing","filter_key_pattern":">"}`)
	p.ok("POST", "/api/streams/prices/consumers", `{"name":"shop","filter_key_pattern":"p.>"}`)
	for i := range 5 {
		p.ok("POST", "/api/streams/orders/messages", fmt.Sprintf(`{"messages":[{"key":"o.%d","data":"order %d"}]}`, i, i))
		p.ok("POST", "/api/streams/prices/messages", fmt.Sprintf(`{"messages":[{"key":"p.%d","data":"price %d"}]}`, i%3, i))
	}
	out := p.receive("orders/consumers/billing", 4)
	p.ack("orders/consumers/billing", []delivered{out[0], out[2]})
	p.ack("prices/consumers/shop", p.receive("prices/consumers/shop", 1))
	p.stop()

	s := &copyShell{t: t, names: []string{dir, "DIR", back, "BACK", one, "URL1", two, "URL2"}}
	s.run(dir, one, "")
	p = serveAt(t, one)
	s.run(one, two, "prices --json")
	require.Contains(t, p.ok("GET", "/api/streams/prices/messages/p.1", ""), "price 4", "the server goes on")
	status, body := p.do("POST", "/api/streams/prices/messages", `{"messages":[{"key":"p.1","data":"price 9"}]}`)
	require.Equal(t, 503, status)
	require.Contains(t, body, "The stream is read-only: it was copied to another store, which serves it now. Nothing was changed. Repeat the request later")
	p.ok("POST", "/api/streams/orders/messages", `{"messages":[{"key":"o.5","data":"order 5"}]}`)
	p.stop()
	s.run(one, two, "")
	s.run(two, back, "")
	s.run(two, back, "--cancel")
	s.run(two, back, "--cancel --json orders")
	s.run(two, "", "--cancel orders")
	s.golden("copy")

	p = serveAt(t, back)
	var keys []string
	for _, d := range p.receive("orders/consumers/billing", 9) {
		keys = append(keys, fmt.Sprint(d.Message.Key, " ", d.DeliverCount))
	}
	require.Equal(t, []string{"o.1 2", "o.3 2", "o.4 1", "o.5 1"}, keys)
	keys = nil
	for _, d := range p.receive("prices/consumers/shop", 9) {
		keys = append(keys, d.Message.Key+" "+d.Message.Data)
	}
	require.Equal(t, []string{"p.0 price 3", "p.1 price 4"}, keys, "price 2 was acked")
}

func TestACopyThatCannotBeMadeSaysWhy(t *testing.T) {
	dir, other, empty := stored(t), stored(t), t.TempDir()
	s := &copyShell{t: t, names: []string{dir, "DIR", other, "OTHER", empty, "EMPTY"}}
	s.run("", "", "")
	s.run(dir, "", "")
	s.run(dir, dir, "")
	s.run(dir, "http://localhost:7376", "")
	s.run(dir, "postgres://u@127.0.0.1:1/d", "")
	s.run(dir, "", "--to postgres://u:secret@h/d")
	s.run(empty, dir, "")
	s.run(filepath.Join(empty, "nope"), dir, "")
	s.run(dir, other, "")
	s.run(dir, empty, "nope")
	s.run(dir, empty, "s")
	s.run(dir, filepath.Join(empty, "third"), "s")
	p := serveAt(t, dir)
	s.run(dir, empty, "")
	p.stop()
	s.golden("copy_refused")
}
