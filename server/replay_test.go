package server_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/conformance"
	"github.com/sequin-go/sequin/server"
)

type (
	exchange = conformance.Exchange
	answer   = conformance.Answer
)

// TestAug2024AnswersEveryRecordedRequestAsRecorded replays the whole recording. Status, content type, texts and shapes must
// be equal. Ids, seqs and times are mapped.
func TestAug2024AnswersEveryRecordedRequestAsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlayer(t, server.Aug2024)
		for _, x := range conformance.Recording(t) {
			p.prepare(x.N)
			if diff := p.play(x); diff != "" {
				t.Errorf("n=%d %s: %s", x.N, x.Case, diff)
			}
		}
	})
}

// TestTheDocumentedModeDiffersFromTheRecordingOnPurposeOnly replays the same recording. Every answer must be as recorded, or
// as in the table of differences, which gives the reason.
func TestTheDocumentedModeDiffersFromTheRecordingOnPurposeOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlayer(t, server.Documented)
		for _, x := range conformance.Recording(t) {
			p.prepare(x.N)
			want, differs := documented[x.N]
			asRecorded := p.play(x)
			if !differs {
				if asRecorded != "" {
					t.Errorf("n=%d %s: %s", x.N, x.Case, asRecorded)
				}
				continue
			}
			require.NotEmptyf(t, asRecorded, "n=%d %s is answered as recorded, so the table is wrong", x.N, x.Case)
			require.Equalf(t, want.status, p.last.Status, "n=%d %s: %s", x.N, x.Case, p.last.Body)
			require.Containsf(t, p.last.Body, want.body, "n=%d %s", x.N, x.Case)
		}
	})
}

// player sends recorded requests to a server and compares the answers.
type player struct {
	t      *testing.T
	s      *served
	compat server.Compat
	ids    map[string]string // recorded id to the server's
	keys   map[string]string // recorded ack id to the key of its message
	acks   map[string]string // key to the ack id of its latest delivery
	seqs   []seqPair
	last   answer
}

type seqPair struct{ recorded, served float64 }

func newPlayer(t *testing.T, compat server.Compat) *player {
	t.Helper()
	return &player{
		t: t, s: serve(t, server.Config{Compat: compat}), compat: compat,
		ids: map[string]string{}, keys: map[string]string{}, acks: map[string]string{},
	}
}

func (p *player) prepare(n int) {
	p.t.Helper()
	for _, step := range missing[n] {
		time.Sleep(step.after)
		if step.method == "" {
			continue
		}
		x := exchange{N: n, Case: step.why}
		body := strings.Replace(step.body, received, p.received(), 1)
		x.Request.Method, x.Request.Path, x.Request.Body = step.method, step.path, &body
		x.Request.Headers = map[string]string{"Content-Type": "application/json"}
		if step.form {
			x.Request.Headers = nil
		}
		want := http.StatusOK
		if p.compat == server.Documented && step.documented != 0 {
			want = step.documented
		}
		require.Equalf(p.t, want, p.send(x).Status, "before n=%d: %s: %s", n, step.why, p.last.Body)
		if step.id != "" {
			p.ids[step.id] = uuidText.FindString(regexp.MustCompile(`"id":"[^"]*"`).FindString(p.last.Body))
		}
	}
}

// received returns the ack ids in the last answer as a JSON list.
func (p *player) received() string {
	ids := []string{}
	p.learnAcks(p.last.Body, func(ackID, _ string) { ids = append(ids, ackID) })
	text, err := json.Marshal(ids)
	require.NoError(p.t, err)
	return string(text)
}

var uuidText = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// translate replaces recorded ids by those of the server under test.
func (p *player) translate(text string) string {
	return uuidText.ReplaceAllStringFunc(text, func(id string) string {
		if served, ok := p.acks[p.keys[id]]; ok {
			return served
		}
		if served, ok := p.ids[id]; ok {
			return served
		}
		return id
	})
}

// learnAcks reports which ack ids belong to which keys. The documented mode delivers messages in another order and with a
// new id each time, so a recorded id stands for the latest id of its key.
func (p *player) learnAcks(body string, learn func(ackID, key string)) {
	var received struct {
		Data json.RawMessage
	}
	var deliveries []struct {
		AckID   string `json:"ack_id"`
		Message struct{ Key string }
	}
	if json.Unmarshal([]byte(body), &received) != nil || json.Unmarshal(received.Data, &deliveries) != nil {
		return
	}
	for _, d := range deliveries {
		if d.AckID != "" {
			learn(d.AckID, d.Message.Key)
		}
	}
}

func (p *player) send(x exchange) answer {
	p.t.Helper()
	body := generated(x)
	if body == "" && x.Request.Body != nil {
		body = p.translate(*x.Request.Body)
	}
	path := p.translate(x.Request.Path)
	if slices.Contains(x.Request.CurlFlags, "--http1.0") {
		p.last = p.sendHTTP10(x.Request.Method, path)
		return p.last
	}
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequest(x.Request.Method, "http://pipe"+path, reader)
	require.NoError(p.t, err)
	for name, value := range x.Request.Headers {
		r.Header.Set(name, value)
	}
	if body != "" && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded") // curl's default
	}
	if _, set := x.Request.Headers["Expect"]; !set && len(body) > 1<<20 {
		r.Header.Set("Expect", "100-continue") // curl's default
	}
	client := p.s.client
	if slices.Contains(x.Request.CurlFlags, "--http2-prior-knowledge") && len(bubbleProtocols) > 1 {
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		client = p.s.newClient(p.t, protocols)
		defer client.CloseIdleConnections()
	}
	client.CloseIdleConnections() // each request was sent on a connection of its own
	resp, err := client.Do(r)
	require.NoErrorf(p.t, err, "n=%d", x.N)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	p.learnAcks(string(text), func(ackID, key string) { p.acks[key] = ackID })
	p.last = answer{Status: resp.StatusCode, Headers: map[string]string{"content-type": resp.Header.Get("Content-Type")}, Body: string(text)}
	return p.last
}

// sendHTTP10 writes the request itself, because net/http's client does not speak HTTP/1.0.
func (p *player) sendHTTP10(method, path string) answer {
	p.t.Helper()
	conn, err := p.s.listener.dial(p.t.Context(), "", "")
	require.NoError(p.t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "%s %s HTTP/1.0\r\n\r\n", method, path)
	require.NoError(p.t, err)
	reader := textproto.NewReader(bufio.NewReader(conn))
	line, err := reader.ReadLine()
	require.NoError(p.t, err)
	var status int
	_, err = fmt.Sscanf(line, "HTTP/1.0 %d", &status)
	require.NoErrorf(p.t, err, "%q", line)
	header, err := reader.ReadMIMEHeader()
	require.NoError(p.t, err)
	body, err := io.ReadAll(reader.R)
	require.NoError(p.t, err)
	return answer{Status: status, Headers: map[string]string{"content-type": header.Get("Content-Type")}, Body: string(body)}
}

// play sends x and returns how the answer differs from the recorded one, or "".
func (p *player) play(x exchange) string {
	p.t.Helper()
	got, want := p.send(x), x.Response
	p.learnAcks(want.Body, func(ackID, key string) { p.keys[ackID] = key })
	if got.Status != want.Status {
		return fmt.Sprintf("status %d, recorded %d: %s", got.Status, want.Status, got.Body)
	}
	if got.Headers["content-type"] != want.Headers["content-type"] {
		return fmt.Sprintf("content type %q, recorded %q", got.Headers["content-type"], want.Headers["content-type"])
	}
	if !strings.HasPrefix(want.Body, "{") {
		if got.Body != want.Body {
			return fmt.Sprintf("body %q, recorded %q", got.Body, want.Body)
		}
		return ""
	}
	var gotJSON, wantJSON any
	require.NoError(p.t, json.Unmarshal([]byte(want.Body), &wantJSON))
	if err := json.Unmarshal([]byte(got.Body), &gotJSON); err != nil {
		return err.Error() + " in " + got.Body
	}
	return p.compare("", gotJSON, wantJSON)
}
