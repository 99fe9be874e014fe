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
)

// sessionCase is a case that runs in a session.
type sessionCase struct {
	name string
	run  func(*session)
}

// session runs one case, with a stream of its own.
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

// create creates a stream that is deleted when the case ends. options are members of its JSON, each after a comma.
func (s *session) create(name, options string) map[string]any {
	s.Helper()
	created := s.object("POST", "/api/streams", `{"name":"`+name+`"`+options+`}`)
	s.Cleanup(func() { s.remove(name) })
	return created
}

// remove deletes a stream, unless the case has deleted it. The 2024 server resets a connection after some answers, which a
// request on it meets, so the request is repeated.
func (s *session) remove(name string) {
	s.Helper()
	var err error
	for range 3 {
		if _, err = s.try("DELETE", "/api/streams/"+name, ""); err == nil {
			return
		}
		s.Client.CloseIdleConnections()
	}
	require.NoErrorf(s, err, "DELETE stream %s", name)
}

// onePerKey replaces the session's stream by one that keeps one message per key, as all streams of the 2024 server do.
func (s *session) onePerKey() *session {
	s.Helper()
	s.stream += "r"
	s.create(s.stream, `,"one_message_per_key":true`)
	return s
}

// path returns a path below the session's stream.
func (s *session) path(elements ...string) string {
	return "/api/streams/" + strings.Join(append([]string{s.stream}, elements...), "/")
}

// consumer creates a consumer of the session's stream and returns its id.
func (s *session) consumer(pattern, options string) string {
	s.Helper()
	name := fmt.Sprintf("c%08x", rand.Uint32()) // on the 2024 server a name is unique among all streams
	created := s.object("POST", s.path("consumers"), `{"name":"`+name+`","filter_key_pattern":"`+pattern+`"`+options+`}`)
	return created["id"].(string)
}

type answer struct {
	status int
	header http.Header
	body   string
}

// timeout limits a request to a server that does not answer. No case waits longer than two seconds.
const timeout = 30 * time.Second

// call sends JSON. headers holds names and values in turn.
func (s *session) call(method, path, body string, headers ...string) answer {
	s.Helper()
	a, err := s.try(method, path, body, headers...)
	require.NoErrorf(s, err, "%s %s", method, path)
	if a.status == http.StatusInternalServerError || a.status == http.StatusRequestEntityTooLarge {
		s.Client.CloseIdleConnections() // the 2024 server resets the connection of such an answer
	}
	return a
}

// try is call for a request that may get no answer.
func (s *session) try(method, path, body string, headers ...string) (answer, error) {
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
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(text)}, err
}

// same compares two texts. Of long lines require.Equal would show nothing.
func (s *session) same(want, got, about string) {
	s.Helper()
	if diff := difference(want, got); diff != "" {
		require.Fail(s, "texts differ", "%s: %s", about, diff)
	}
}

// difference returns where two texts differ, or "".
func difference(want, got string) string {
	if want == got {
		return ""
	}
	at := 0
	for at < min(len(want), len(got)) && want[at] == got[at] {
		at++
	}
	const before = 20
	from := max(at-before, 0)
	return fmt.Sprintf("at byte %d of %d, wanted %d bytes: %.60q, wanted %.60q", at, len(got), len(want), got[from:], want[from:])
}

// object makes a call that must succeed, and returns the JSON object of the answer.
func (s *session) object(method, path, body string) map[string]any {
	s.Helper()
	a := s.call(method, path, body)
	require.Equalf(s, http.StatusOK, a.status, "%s %s %.200s: %.500s", method, path, body, a.body)
	require.Equal(s, "application/json; charset=utf-8", a.header.Get("Content-Type"))
	var o map[string]any
	require.NoErrorf(s, json.Unmarshal([]byte(a.body), &o), "%.500s", a.body)
	return o
}

// refused makes a call that must be refused with a status and a summary that contains text.
func (s *session) refused(status int, text, method, path, body string) answer {
	s.Helper()
	a := s.call(method, path, body)
	require.Equalf(s, status, a.status, "%s %s %.200s: %.500s", method, path, body, a.body)
	var parsed struct{ Summary string }
	require.NoErrorf(s, json.Unmarshal([]byte(a.body), &parsed), "%.500s", a.body)
	require.Contains(s, parsed.Summary, text)
	return a
}

// send sends key=data pairs and returns how many messages the server reports as published.
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
	text, _ := json.Marshal(map[string]any{"messages": messages}) // strings cannot fail
	return string(text)
}

// delivery is a message in the answer to a receive.
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

// receiveAll receives until it has n messages. A job of the 2024 server may hold the messages of a new consumer for a moment,
// and a receive answers an empty list meanwhile.
func (s *session) receiveAll(consumer string, n int) deliveries {
	s.Helper()
	var all deliveries
	for end := time.Now().Add(10 * time.Second); len(all) < n && time.Now().Before(end); {
		got := s.receive(consumer, n-len(all))
		if all = append(all, got...); len(got) == 0 {
			time.Sleep(100 * time.Millisecond)
		}
	}
	return all
}

// parse returns the deliveries in the answer to a receive.
func (s *session) parse(a answer) deliveries {
	s.Helper()
	require.Equalf(s, http.StatusOK, a.status, "%.500s", a.body)
	var got struct{ Data deliveries }
	require.NoErrorf(s, json.Unmarshal([]byte(a.body), &got), "%.500s", a.body)
	require.NotNilf(s, got.Data, "%.500s", a.body)
	return got.Data
}

// settle acks or nacks deliveries; verb is "ack" or "nack".
func (s *session) settle(verb, consumer string, d deliveries) {
	s.Helper()
	require.Equal(s, map[string]any{"success": true}, s.object("POST", s.path("consumers", consumer, verb), d.ids()))
}

// ids returns the body that settles the deliveries.
func (d deliveries) ids() string {
	ids := []string{}
	for _, one := range d {
		ids = append(ids, one.AckID)
	}
	text, _ := json.Marshal(map[string]any{"ack_ids": ids}) // strings cannot fail
	return string(text)
}

// pairs returns the deliveries as key=data, in no particular order.
func (d deliveries) pairs() []string {
	out := []string{}
	for _, one := range d {
		out = append(out, one.Message.Key+"="+one.Message.Data)
	}
	return out
}
