package sequintest

import (
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// pipeCapacity is how many bytes travel unread in one direction: what Linux gives a loopback socket at first. A writer
// waits beyond it, so that a reader who does not read is noticed as over TCP.
const pipeCapacity = 64 << 10

// pipe is one direction of an in-memory connection: a bounded buffer between one end's Write and the other's Read.
//
// Whoever waits does so in cond, never in mu: a goroutine blocked in a mutex would keep the clock of a synctest bubble
// from moving.
type pipe struct {
	mu   sync.Mutex // guards all below; held for arithmetic and copying only
	cond sync.Cond  // every change broadcasts

	ring        []byte // grows up to pipeCapacity
	start, size int    // of what is unread

	writerGone error // set: Write gives it; Read gives ended once the buffer is empty
	readerGone error // set: Read gives it; Write gives EPIPE
	ended      error // io.EOF, or ECONNRESET when the other end closed with something unread
	broken     error // set: the connection was cut, both sides get it and the buffer is lost

	read, write deadline
}

func newPipe() *pipe {
	p := &pipe{ended: io.EOF}
	p.cond.L = &p.mu
	return p
}

// Read copies what is there, and waits only when nothing is.
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

// Write copies all of b, waiting for room as often as it takes.
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
			return n, syscall.EPIPE
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

// take moves unread bytes into b.
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

// put moves as much of b into the ring as there is room for.
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

// grow makes the ring hold want bytes, as far as its capacity allows: most connections carry requests of some hundred
// bytes and need no 64 KiB each way.
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

// closeWrite ends the stream: the reader gets what was written, then ended.
func (p *pipe) closeWrite(gone, ended error) {
	p.change(func() {
		if p.writerGone == nil {
			p.writerGone, p.ended = gone, ended
		}
		p.write.set(time.Time{}, &p.cond)
	})
}

// closeRead refuses what is still to come, and reports whether something was left unread.
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

// cut breaks the direction for both sides; what is under way is lost.
func (p *pipe) cut(err error) {
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

// deadline is a moment after which an operation fails. Its timer does no more than wake who waits: whether the moment is
// past is read off the clock, so a timer that fires late, or for a deadline that was moved, cannot do harm.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) over() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// set needs the lock of cond. net/http moves deadlines at every request, hence the one timer for all of them.
func (d *deadline) set(at time.Time, cond *sync.Cond) {
	d.at = at
	if d.timer != nil {
		d.timer.Stop() // or it would keep a closed connection, and its buffer, in memory
	}
	switch wait := time.Until(at); {
	case at.IsZero() || wait <= 0:
	case d.timer != nil:
		d.timer.Reset(wait)
	default:
		d.timer = time.AfterFunc(wait, func() {
			// Between a waiter's look at the clock and its Wait the lock is held, so this wake-up cannot fall in between.
			cond.L.Lock()
			defer cond.L.Unlock()
			cond.Broadcast()
		})
	}
}
