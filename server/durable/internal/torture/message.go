package torture

import (
	"fmt"
	"strings"

	"github.com/sequin-go/sequin/server/internal/store"
)

// Message names a message: the Index-th of the Send-th send of a worker. Its key and data follow from that.
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

// parse returns the message that data belongs to, and false if it is not whole.
func parse(key, data string) (m Message, ok bool) {
	name, _, _ := strings.Cut(data, " ")
	if _, err := fmt.Sscanf(name, "%d.%d.%d", &m.Worker, &m.Send, &m.Index); err != nil {
		return m, false
	}
	return m, key == m.key() && data == m.data()
}

// batchSize returns how many messages a send has.
func batchSize(send int) int { return 1 + send%maxBatch }

// batch returns the messages of a send.
func batch(worker, send int) []store.Message {
	out := make([]store.Message, batchSize(send))
	for i := range out {
		m := Message{worker, send, i}
		out[i] = store.Message{Key: m.key(), Data: m.data()}
	}
	return out
}

// once identifies a send, so that it can be repeated.
func once(stream string, worker, send int) store.Once {
	name := fmt.Sprintf("%s/%d/%d", stream, worker, send)
	return store.Once{Key: name, Body: []byte(name)}
}
