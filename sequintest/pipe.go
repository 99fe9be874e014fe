package sequintest

import (
	"io"
	"os"
	"sync"
	"time"
)

// pipeCapacity is how many bytes may be unread in one direction before the writer waits, as over TCP. It is the initial size
// of a loopback socket's buffer on Linux.
const pipeCapacity = 64 << 10

// pipe is one direction of an in-memory connection: a bounded buffer between one end's Write and the other's Read.
//
// Reads and writes wait on cond and never for mu, because the clock of a synctest bubble does not advance while a goroutine
// waits for a mutex.
type pipe struct {
	mu   sync.Mutex // guards all below; held for arithmetic and copying only
	cond sync.Cond  // every change broadcasts

	ring        []byte // grows up to pipeCapacity
	start, size int    // of the unread bytes

	writerGone error // if set, Write returns it, and Read returns ended once the buffer is empty
	readerGone error // if set, Read returns it, and Write returns EPIPE
	ended      error // io.EOF, or ECONNRESET when the writer closed and left data unread
	broken     error // if set, the connection was reset: both sides return it, and the buffer is lost

	read, write deadline
}

func newPipe() *pipe {
	p := &pipe{ended: io.EOF}
	p.cond.L = &p.mu
	return p
}

// Read copies unread bytes into b, and waits only while there are none.
func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.readerGone != nil:
			return 0, p.readerGone
		case p.broken != nil:
			return 0, p.broken
		case p.read.over():
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		case p.size > 0:
			n := p.take(b)
			p.cond.Broadcast()
			return n, nil
		case p.writerGone != nil:
			return 0, p.ended
		}
		p.cond.Wait()
	}
}

// Write copies all of b into the buffer, and waits for room as often as needed.
func (p *pipe) Write(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.writerGone != nil:
			return n, p.writerGone
		case p.broken != nil:
			return n, p.broken
		case p.readerGone != nil:
			return n, errBrokenPipe
		case p.write.over():
			return n, os.ErrDeadlineExceeded
		case n == len(b):
			return n, nil
		}
		if put := p.put(b[n:]); put > 0 {
			n += put
			p.cond.Broadcast()
			continue
		}
		p.cond.Wait()
	}
}

// take moves unread bytes into b, as many as fit.
func (p *pipe) take(b []byte) (n int) {
	for n < len(b) && p.size > 0 {
		run := min(p.size, len(p.ring)-p.start)
		moved := copy(b[n:], p.ring[p.start:p.start+run])
		n += moved
		p.size -= moved
		p.start = (p.start + moved) % len(p.ring)
	}
	return n
}

// put moves bytes of b into the ring, as many as there is room for.
func (p *pipe) put(b []byte) (n int) {
	p.grow(p.size + len(b))
	for n < len(b) && p.size < len(p.ring) {
		end := (p.start + p.size) % len(p.ring)
		room := len(p.ring) - p.size
		if end >= p.start {
			room = min(room, len(p.ring)-end)
		}
		moved := copy(p.ring[end:end+room], b[n:])
		n += moved
		p.size += moved
	}
	return n
}

// grow makes room for want bytes, up to pipeCapacity. The ring starts small because most connections carry requests of a
// few hundred bytes.
func (p *pipe) grow(want int) {
	size := max(len(p.ring), 2<<10)
	for size < want && size < pipeCapacity {
		size *= 2
	}
	if size == len(p.ring) {
		return
	}
	ring := make([]byte, size)
	unread := p.size
	p.take(ring)
	p.ring, p.start, p.size = ring, 0, unread
}

// closeWrite ends the data: the reader gets what was written, and then the error ended. Write returns gone.
func (p *pipe) closeWrite(gone, ended error) {
	p.change(func() {
		if p.writerGone == nil {
			p.writerGone, p.ended = gone, ended
		}
		p.write.set(time.Time{}, &p.cond)
	})
}

// closeRead makes Read return gone, and reports whether bytes were left unread.
func (p *pipe) closeRead(gone error) (unread bool) {
	p.change(func() {
		unread = p.size > 0
		if p.readerGone == nil {
			p.readerGone = gone
		}
		p.read.set(time.Time{}, &p.cond)
	})
	return unread
}

// reset makes both sides return err. Unread bytes are lost.
func (p *pipe) reset(err error) {
	p.change(func() { p.broken = err })
}

func (p *pipe) setDeadline(d *deadline, at time.Time) {
	p.change(func() { d.set(at, &p.cond) })
}

func (p *pipe) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.cond.Broadcast()
}

// deadline is the time after which an operation fails. Its timer only wakes the goroutines that wait. They read from the
// clock whether the time has passed. A timer that fires late, or after the deadline was moved, therefore does no harm.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) over() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// set moves the deadline. The caller holds the lock of cond. The timer is reused because net/http moves deadlines at every
// request.
func (d *deadline) set(at time.Time, cond *sync.Cond) {
	d.at = at
	if d.timer != nil {
		d.timer.Stop() // otherwise it keeps a closed connection and its buffer in memory
	}
	switch wait := time.Until(at); {
	case at.IsZero() || wait <= 0:
	case d.timer != nil:
		d.timer.Reset(wait)
	default:
		d.timer = time.AfterFunc(wait, func() {
			// A waiter holds the lock from its look at the clock to its Wait, so the broadcast cannot come in between.
			cond.L.Lock()
			defer cond.L.Unlock()
			cond.Broadcast()
		})
	}
}
