// Package conformance says what the embedded server and a real Sequin server share, as named cases over plain HTTP. They
// know nothing of the client, so that what it gets wrong is not repeated here.
//
// The package's own test runs all of them against the embedded server in both modes, and against the server that
// $SEQUIN_URL names when it is set. There each case makes a stream of its own, with a name that even the 2024 server takes
// (no dashes, 44 characters with the consumer's), and deletes it.
package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// Target is a server to try.
type Target struct {
	URL    string
	Client *http.Client
	Mode   server.Compat
}

// Case is one thing that a server does.
type Case struct {
	Name string
	Run  func(t *testing.T, target Target)
}

// Cases returns all cases. They are independent of one another; some wait for a lease of a second to end.
func Cases() []Case {
	var all []Case
	for _, group := range [][]named{streamCases, messageCases, receiveCases} {
		for _, c := range group {
			all = append(all, Case{c.name, func(t *testing.T, target Target) { c.run(newSession(t, target)) }})
		}
	}
	return append(all, recordedCases()...)
}

type named struct {
	name string
	run  func(*session)
}

// Detect tells which of the two behaviours a server shows: only the 2024 one has streams without one_message_per_key.
func Detect(t *testing.T, url string, client *http.Client) server.Compat {
	t.Helper()
	s := newSession(t, Target{URL: url, Client: client})
	if _, told := s.object("GET", s.path(), "")["one_message_per_key"]; told {
		return server.Documented
	}
	return server.Aug2024
}

// session is a case at work, with a stream of its own.
type session struct {
	*testing.T
	Target
	stream string
}

func newSession(t *testing.T, target Target) *session {
	t.Helper()
	s := &session{T: t, Target: target, stream: fmt.Sprintf("cf%08x", rand.Uint32())}
	s.create(s.stream, "")
	return s
}

// create makes a stream that goes when the case ends. options are members of its JSON, each with a comma before it.
func (s *session) create(name, options string) map[string]any {
	s.Helper()
	made := s.object("POST", "/api/streams", `{"name":"`+name+`"`+options+`}`)
	s.Cleanup(func() { s.call("DELETE", "/api/streams/"+name, "") }) // it may be gone already
	return made
}

// replacing makes the session's stream one that keeps one message per key, which on the 2024 server it is anyway.
func (s *session) replacing() *session {
	s.Helper()
	s.stream += "r"
	s.create(s.stream, `,"one_message_per_key":true`)
	return s
}

// path is below the session's stream.
func (s *session) path(elements ...string) string {
	return "/api/streams/" + strings.Join(append([]string{s.stream}, elements...), "/")
}

// consumer makes one of the session's stream and returns its id.
func (s *session) consumer(pattern, options string) string {
	s.Helper()
	name := fmt.Sprintf("c%08x", rand.Uint32()) // names are not scoped to streams on the 2024 server
	made := s.object("POST", s.path("consumers"), `{"name":"`+name+`","filter_key_pattern":"`+pattern+`"`+options+`}`)
	return made["id"].(string)
}

type answer struct {
	status int
	header http.Header
	body   string
}

// timeout is for a server that does not answer; no case waits longer than a second or two.
const timeout = 30 * time.Second

// call sends JSON; headers come in pairs.
func (s *session) call(method, path, body string, headers ...string) answer {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout) // t.Context() has ended when cases clean up
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, s.URL+path, bytes.NewReader([]byte(body)))
	require.NoError(s, err)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.Client.Do(r)
	require.NoErrorf(s, err, "%s %s", method, path)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoErrorf(s, err, "%s %s", method, path)
	return answer{resp.StatusCode, resp.Header, string(text)}
}

// object is call for what has to succeed with a JSON object.
func (s *session) object(method, path, body string) map[string]any {
	s.Helper()
	a := s.call(method, path, body)
	require.Equalf(s, http.StatusOK, a.status, "%s %s %.200s: %.500s", method, path, body, a.body)
	require.Equal(s, "application/json; charset=utf-8", a.header.Get("Content-Type"))
	var o map[string]any
	require.NoErrorf(s, json.Unmarshal([]byte(a.body), &o), "%.500s", a.body)
	return o
}

// refused asks for a refusal with a status, and a summary that holds a text.
func (s *session) refused(status int, text, method, path, body string) answer {
	s.Helper()
	a := s.call(method, path, body)
	require.Equalf(s, status, a.status, "%s %s %.200s: %.500s", method, path, body, a.body)
	var said struct{ Summary string }
	require.NoErrorf(s, json.Unmarshal([]byte(a.body), &said), "%.500s", a.body)
	require.Contains(s, said.Summary, text)
	return a
}

// send publishes key=data pairs and returns how many the server counted.
func (s *session) send(pairs ...string) int {
	s.Helper()
	return int(s.object("POST", s.path("messages"), sendBody(pairs...))["data"].(map[string]any)["published"].(float64))
}

func sendBody(pairs ...string) string {
	type message struct {
		Key  string `json:"key"`
		Data string `json:"data"`
	}
	messages := []message{}
	for _, pair := range pairs {
		key, data, _ := strings.Cut(pair, "=")
		messages = append(messages, message{key, data})
	}
	text, _ := json.Marshal(map[string]any{"messages": messages}) // of strings
	return string(text)
}

// delivery is one of a receive's messages.
type delivery struct {
	AckID   string `json:"ack_id"`
	Message struct {
		Key, Data  string
		Seq        int64
		DataHash   string    `json:"data_hash"`
		StreamID   string    `json:"stream_id"`
		InsertedAt time.Time `json:"inserted_at"`
	}
}

type deliveries []delivery

// receive asks for up to n messages.
func (s *session) receive(consumer string, n int) deliveries {
	s.Helper()
	return s.parse(s.call("POST", s.path("consumers", consumer, "receive"), fmt.Sprintf(`{"batch_size":%d}`, n)))
}

func (s *session) parse(a answer) deliveries {
	s.Helper()
	require.Equalf(s, http.StatusOK, a.status, "%.500s", a.body)
	var got struct{ Data deliveries }
	require.NoErrorf(s, json.Unmarshal([]byte(a.body), &got), "%.500s", a.body)
	require.NotNilf(s, got.Data, "%.500s", a.body)
	return got.Data
}

func (s *session) settle(verb, consumer string, d deliveries) {
	s.Helper()
	require.Equal(s, map[string]any{"success": true}, s.object("POST", s.path("consumers", consumer, verb), d.ids()))
}

func (d deliveries) ids() string {
	ids := []string{}
	for _, one := range d {
		ids = append(ids, one.AckID)
	}
	text, _ := json.Marshal(map[string]any{"ack_ids": ids}) // of strings
	return string(text)
}

// pairs shows deliveries as key=data, in no order: a receive promises none.
func (d deliveries) pairs() []string {
	out := []string{}
	for _, one := range d {
		out = append(out, one.Message.Key+"="+one.Message.Data)
	}
	return out
}
