package torture

import (
	"fmt"
	"strings"

	"github.com/sequin-go/sequin/server/internal/headers"
	"github.com/sequin-go/sequin/server/internal/store"
)

// Message names a message: the Index-th of the Send-th send of a worker. Its key, data and headers follow from that.
type Message struct {
	Worker, Send, Index int
}

func (m Message) String() string { return fmt.Sprintf("%d.%d.%d", m.Worker, m.Send, m.Index) }

// A worker has so many keys. The messages of one send have different ones.
const (
	keysOfWorker = 20
	maxBatch     = 3
)

func (m Message) key() string {
	return fmt.Sprintf("k.%d.%d", m.Worker, (2*m.Send+m.Index)%keysOfWorker)
}

// data is the name of the message and, on some, text that is long or can be compressed.
func (m Message) data() string {
	size := 0
	switch n := m.Send % 7; n {
	case 3:
		size = 200 * (m.Index + 1)
	case 5:
		size = 3_000
	}
	return m.String() + strings.Repeat(fmt.Sprint(" ", m), size/len(m.String()))
}

// headers are those of the message. Some sends have none, some have a message without, and some have long ones.
func (m Message) headers() headers.Packed {
	n := (m.Send + m.Index) % 5
	if m.Send%3 == 0 || n == 0 {
		return ""
	}
	return headers.Packed("name\x00" + strings.Repeat(fmt.Sprint(m, " "), 1+n/4*150) + "\x00other\x00\x00")
}

// stored is the message as a store gets it.
func (m Message) stored() store.Message {
	return store.Message{Key: m.key(), Data: m.data(), Headers: m.headers()}
}

// parse returns the message that data belongs to, and false if it is not whole.
func parse(got store.Message) (m Message, ok bool) {
	name, _, _ := strings.Cut(got.Data, " ")
	if _, err := fmt.Sscanf(name, "%d.%d.%d", &m.Worker, &m.Send, &m.Index); err != nil {
		return m, false
	}
	want := m.stored()
	return m, got.Key == want.Key && got.Data == want.Data && got.Headers == want.Headers
}

// batchSize returns how many messages a send has.
func batchSize(send int) int { return 1 + send%maxBatch }

// batch returns the messages of a send.
func batch(worker, send int) []store.Message {
	out := make([]store.Message, batchSize(send))
	for i := range out {
		out[i] = Message{worker, send, i}.stored()
	}
	return out
}

// once identifies a send, so that it can be repeated.
func once(stream string, worker, send int) store.Once {
	name := fmt.Sprintf("%s/%d/%d", stream, worker, send)
	return store.Once{Key: name, Body: []byte(name)}
}
