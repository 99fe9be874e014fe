package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// stub is a server that answers at once, or after a delay that represents a network and a database. It measures the client
// alone. It delivers the same messages again and again.
type stub struct {
	delay time.Duration
	size  int
	sink  bool // it delivers changes of rows, and not messages

	once    sync.Once
	list    []byte    // the longest answer to a receive
	ends    [1001]int // ends[n] is where n messages end in list
	answers sync.Map  // batch size → a prepared answer to a receive
}

var stubs sync.Map // stubKind → *stub

type stubKind struct {
	size int
	sink bool
}

// stubOf returns the stub of a size. It is always the same one, so that its answers are made only once.
func stubOf(size int, sink bool) *stub {
	s, _ := stubs.LoadOrStore(stubKind{size, sink}, &stub{size: size, sink: sink})
	return s.(*stub)
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body bytes.Buffer
	last := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	if last == "receive" {
		_, _ = body.ReadFrom(r.Body)
	} else {
		_, _ = io.Copy(io.Discard, r.Body)
	}
	if s.delay > 0 {
		time.Sleep(s.delay)
	}
	answer := []byte(`{"success":true}`)
	switch last {
	case "messages":
		answer = []byte(`{"data":{"published":1000}}`)
	case "receive":
		answer = s.messages(asked(body.Bytes()))
	case "stream":
		answer = []byte(`{"id":"` + uuid.Nil.String() + `","name":"stream","one_message_per_key":false}`)
	case "consumer":
		answer = []byte(`{"id":"consumer","name":"consumer","ack_wait_ms":30000,"max_ack_pending":1000000}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(answer)))
	h.Set("Sequin-Waited-Ms", "0")
	_, _ = w.Write(answer)
}

var batchSize = regexp.MustCompile(`"batch_size":(\d+)`)

// asked returns the batch size of a receive.
func asked(body []byte) int {
	if m := batchSize.FindSubmatch(body); m != nil {
		n, _ := strconv.Atoi(string(m[1]))
		return n
	}
	return 1
}

// messages returns the answer to a receive of n messages. It copies the beginning of the longest answer, so that a client which
// asks for many sizes does not pay for the encoding.
func (s *stub) messages(n int) []byte {
	if ready, ok := s.answers.Load(n); ok {
		return ready.([]byte)
	}
	s.once.Do(func() {
		var b bytes.Buffer
		b.WriteString(`{"data":[`)
		now := time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
		for i := range 1000 {
			if s.sink {
				writeChange(&b, i, s.size, now)
			} else {
				fmt.Fprintf(&b, `{"ack_id":%q,"deliver_count":1,"message":{"key":%q,"stream_id":%q,"data_hash":"5/bAEXdujbfNMwtUF0/Xb30CFrYSOHpf/PuB5vCRloM=","data":%q,"seq":%d,"inserted_at":%q,"updated_at":%q}}`,
					uuid.NewString(), key(i), uuid.Nil, payload(s.size), i+1, now, now)
			}
			s.ends[i+1] = b.Len()
			b.WriteByte(',')
		}
		s.list = b.Bytes()
	})
	ready, _ := s.answers.LoadOrStore(n, slices.Concat(s.list[:s.ends[n]], []byte(`]}`)))
	return ready.([]byte)
}

// serve runs a handler on loopback until stop.
func serve(h http.Handler) (url string, stop func(), err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	web := &http.Server{Handler: h}
	go web.Serve(ln) // ends with Close
	return "http://" + ln.Addr().String(), func() { _ = web.Close() }, nil
}

// key and payload make the keys and data for every contender.
func key(i int) string { return "sensors.hall_7." + strconv.Itoa(i) }

func payload(size int) string {
	const text = "21.5 degrees, 44 percent, 1013 hectopascals; "
	return strings.Repeat(text, size/len(text)+1)[:size]
}
