package server_test

import (
	"bufio"
	"cmp"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// sinkExchange is a line of the recording of a released Sequin.
type sinkExchange struct {
	exchange
	Seconds float64
}

// sinkMessage is a message in a recorded answer.
type sinkMessage struct {
	AckID string `json:"ack_id"`
	Data  struct {
		Record, Changes map[string]any
		Action          string
		Metadata        struct {
			CommitLSN              int64     `json:"commit_lsn"`
			CommitIdx              int       `json:"commit_idx"`
			Timestamp              time.Time `json:"commit_timestamp"`
			IdempotencyKey         string    `json:"idempotency_key"`
			TransactionAnnotations any       `json:"transaction_annotations"`
		}
	}
}

func (x sinkExchange) messages() []sinkMessage {
	var answer struct{ Data []sinkMessage }
	_ = json.Unmarshal([]byte(x.Response.Body), &answer) // an answer of another shape has none
	return answer.Data
}

func sinkRecording(t *testing.T) map[int]sinkExchange {
	t.Helper()
	file, err := os.Open("testdata/sinks-api.jsonl")
	require.NoError(t, err)
	defer file.Close()
	all := map[int]sinkExchange{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var x sinkExchange
		require.NoError(t, json.Unmarshal(lines.Bytes(), &x))
		all[x.N] = x
	}
	require.NoError(t, lines.Err())
	require.Len(t, all, 182)
	return all
}

// sinkPlayer replays the recording.
type sinkPlayer struct {
	t         *testing.T
	s         *served
	sink      *server.Sink
	recording map[int]sinkExchange
	committed map[string]bool   // idempotency keys
	ids       map[string]string // recorded ack ids to the server's
	back      map[string]string // the reverse
}

// The recorded exchanges that are not deterministic, and what differs.
var undetermined = map[int]string{
	191: "the real server was starting: a receive was answered 500 (n=190) or with nothing (n=191), as it happened",
	206: "the answer was compressed, and its body was not recorded",
	213: "its metadata are in another order than those of all other messages, also of the same message in n=215",
}

// together lists, by the number of an exchange, later ones whose messages were committed before it: the recording says
// "one message per row" of the rows of section 13, for instance.
var together = map[int][]int{24: {25, 26}, 28: {29}, 120: {122}, 176: {179, 184}}

func TestSinksAnswerEveryRecordedRequestAsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newSinkPlayer(t)
		for _, n := range slices.Sorted(maps.Keys(p.recording)) {
			x := p.recording[n]
			p.prepare(n)
			p.commitFor(n)
			began := time.Now()
			status, kind, body := p.send(x)
			if _, ok := undetermined[n]; ok {
				if n == 213 {
					p.learn(x, body)
					require.JSONEq(t, x.Response.Body, p.recorded(body))
				}
				continue
			}
			require.Equal(t, x.Response.Status, status, "n=%d %s: %s", n, x.Case, body)
			require.Equal(t, x.Response.Headers["content-type"], kind, "n=%d %s", n, x.Case)
			p.learn(x, body)
			require.Equal(t, x.Response.Body, p.recorded(body), "n=%d %s", n, x.Case)
			if took := time.Since(began).Seconds(); n != 187 { // whose 0.5 s were work
				require.InDelta(t, x.Seconds, took, 0.05+x.Seconds/20, "n=%d %s", n, x.Case)
			}
		}
	})
}

func newSinkPlayer(t *testing.T) *sinkPlayer {
	p := &sinkPlayer{t: t, s: serve(t, server.Config{Token: "ref-token", SinksOnly: true}), recording: sinkRecording(t),
		committed: map[string]bool{}, ids: map[string]string{}, back: map[string]string{}}
	p.sink = p.s.Sink("orders-sink", server.SinkOptions{Table: "public.orders", ID: "505e0510-0efe-450f-9873-efc78099bccb",
		StartUp:  6 * time.Second,
		Database: server.SinkDatabase{ID: "6ba7f86d-bce0-4d7d-915c-fd67e4996a40", Name: "shop", Hostname: "127.0.0.1"}})
	return p
}

// prepare does what was done before the exchange n and is not recorded.
func (p *sinkPlayer) prepare(n int) {
	switch n {
	case 34, 99, 149, 176, 202, 207, 209: // what was outstanding had been settled: waits of a later exchange were full ones
		p.drain()
		if n == 202 {
			time.Sleep(11 * time.Second)
		}
	case 97: // "three INSERTs 30 ms apart", one second after the receive began
		time.AfterFunc(time.Second, func() { p.commit(p.recording[97].messages()) })
		p.committed[p.recording[97].messages()[0].Data.Metadata.IdempotencyKey] = true
	case 128, 152, 161: // the case says that the id was acked
		p.ack(p.recording[map[int]int{128: 126, 152: 149, 161: 153}[n]].messages()[0].AckID)
	case 168, 198: // after the visibility time-out
		time.Sleep(31 * time.Second)
	case 187: // some seconds after section 13, and the rows
		time.Sleep(11 * time.Second)
		p.deliverRows()
	case 190, 204, 214: // after a restart
		p.s.RestartSinks()
		if n != 190 {
			time.Sleep(6 * time.Second)
		}
	case 194: // "runtime up"
		time.Sleep(6 * time.Second)
	case 211: // "restart, 20 s after the last message was acked"
		time.Sleep(20 * time.Second)
		p.s.RestartSinks()
		time.Sleep(6 * time.Second)
	case 218: // the recorded times are 20 s apart
		time.Sleep(20 * time.Second)
	case 222: // the answer came without a 500
		time.Sleep(6 * time.Second)
	}
}

// deliverRows commits the 12,000 rows of section 15 and receives them, 1,000 at a time.
func (p *sinkPlayer) deliverRows() {
	at, err := time.Parse(time.RFC3339, "2026-11-23T13:23:23.273602Z") // as n=195 shows
	require.NoError(p.t, err)
	tx := server.SinkTransaction{LSN: 79046504, At: at}
	for i := 1; i <= 12_000; i++ {
		record := map[string]any{"id": 4 + i, "customer": "pend " + strconv.Itoa(i), "qty": i}
		tx.Changes = append(tx.Changes, server.SinkChange{Action: "insert", Record: record})
	}
	require.NoError(p.t, p.sink.CommitTransaction(tx))
	for _, n := range []int{195, 197, 200} {
		for _, m := range p.recording[n].messages() {
			p.committed[m.Data.Metadata.IdempotencyKey] = true
		}
	}
}

// commitFor commits the messages that the recorded answer has and the server has not.
func (p *sinkPlayer) commitFor(n int) {
	all := p.recording[n].messages()
	for _, later := range together[n] {
		all = append(all, p.recording[later].messages()...)
	}
	slices.SortFunc(all, func(a, b sinkMessage) int {
		return cmp.Or(cmp.Compare(a.Data.Metadata.CommitLSN, b.Data.Metadata.CommitLSN), a.Data.Metadata.CommitIdx-b.Data.Metadata.CommitIdx)
	})
	for _, m := range all {
		if key := m.Data.Metadata.IdempotencyKey; !p.committed[key] {
			p.committed[key] = true
			p.commit([]sinkMessage{m})
		}
	}
}

func (p *sinkPlayer) commit(messages []sinkMessage) {
	for _, m := range messages {
		d := m.Data
		full := len(d.Changes) > 0 || d.Action == "delete" && d.Record["customer"] != nil
		p.sink.SetReplicaIdentityFull(full)
		change := server.SinkChange{Action: d.Action, Record: d.Record}
		if full && d.Action == "update" {
			before := maps.Clone(d.Record)
			maps.Copy(before, d.Changes)
			change.Before = before
		}
		require.NoError(p.t, p.sink.CommitTransaction(server.SinkTransaction{LSN: d.Metadata.CommitLSN, FirstIndex: d.Metadata.CommitIdx,
			At: d.Metadata.Timestamp, Annotations: d.Metadata.TransactionAnnotations, Changes: []server.SinkChange{change}}))
	}
}

func (p *sinkPlayer) send(x sinkExchange) (status int, contentType, body string) {
	var in string
	if x.Request.Body != nil {
		in = *x.Request.Body
		for recorded, id := range p.ids {
			in = strings.ReplaceAll(in, recorded, id)
		}
	}
	if in == "@body.json" { // 12,000 ack ids
		ids, err := json.Marshal(map[string]any{"ack_ids": p.receiveAll()})
		require.NoError(p.t, err)
		in = string(ids)
	}
	r, err := http.NewRequest(x.Request.Method, "http://pipe"+x.Request.Path, strings.NewReader(in))
	require.NoError(p.t, err)
	if in == "" {
		r.Body, r.ContentLength = nil, 0
	} else {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded") // curl's default
	}
	for name, value := range x.Request.Headers {
		r.Header.Set(name, value)
	}
	answer, err := p.s.client.Do(r)
	require.NoError(p.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(p.t, err)
	return answer.StatusCode, answer.Header.Get("Content-Type"), string(text)
}

func (p *sinkPlayer) post(operation, body string) sinkExchange {
	var x sinkExchange
	x.Request.Method, x.Request.Path, x.Request.Body = "POST", "/api/sequin_streams/orders-sink/"+operation, &body
	x.Request.Headers = map[string]string{"Authorization": "Bearer ref-token", "Content-Type": "application/json"}
	status, _, answer := p.send(x)
	require.Equal(p.t, 200, status, answer)
	x.Response.Body = answer
	return x
}

func (p *sinkPlayer) ack(ids ...string) {
	body, err := json.Marshal(map[string]any{"ack_ids": ids})
	require.NoError(p.t, err)
	p.post("ack", string(body))
}

// receiveAll receives everything and returns the ack ids.
func (p *sinkPlayer) receiveAll() (ids []string) {
	for {
		got := p.post("receive", `{"batch_size":1000}`).messages()
		if len(got) == 0 {
			return ids
		}
		for _, m := range got {
			ids = append(ids, m.AckID)
		}
	}
}

// drain settles everything, also what is outstanding.
func (p *sinkPlayer) drain() {
	p.ack(append(slices.Collect(maps.Values(p.ids)), "00000000-0000-4000-8000-000000000000")...)
	for {
		ids := p.receiveAll()
		if len(ids) == 0 {
			return
		}
		p.ack(ids...)
	}
}

// learn pairs the ack ids of an answer with the recorded ones. An id must be kept exactly where the recorded one is.
func (p *sinkPlayer) learn(x sinkExchange, body string) {
	got := sinkExchange{}
	got.Response.Body = body
	want := x.messages()
	for i, m := range got.messages() {
		if i >= len(want) {
			return
		}
		if known, ok := p.ids[want[i].AckID]; ok {
			require.Equal(p.t, known, m.AckID, "n=%d: the ack id was kept", x.N)
		}
		if known, ok := p.back[m.AckID]; ok {
			require.Equal(p.t, known, want[i].AckID, "n=%d: the ack id was renewed", x.N)
		}
		p.ids[want[i].AckID], p.back[m.AckID] = m.AckID, want[i].AckID
	}
}

// recorded puts the recorded ack ids into an answer.
func (p *sinkPlayer) recorded(body string) string {
	for id, recorded := range p.back {
		body = strings.ReplaceAll(body, id, recorded)
	}
	return body
}
