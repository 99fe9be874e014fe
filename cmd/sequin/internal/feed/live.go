package feed

import (
	"context"
	"errors"
	"io"
	"time"
)

// linger is how long a line of a live input waits for others of its batch. People who watch a log see no delay, and a program that
// writes all the time causes ten requests a second.
const linger = 100 * time.Millisecond

var (
	// errPause means that a live input has nothing more for the batch.
	errPause = errors.New("no more lines for now")
	// errStop means that a live input is not read on.
	errStop = errors.New("no more lines are wanted")
)

// live reads an input whose end nobody knows, such as a pipe. A goroutine waits for the input, so that its reader can stop
// waiting. Nothing can end a Read of a pipe: the goroutine stays until that returns.
type live struct {
	ctx    context.Context // ends reading
	chunks chan chunk
	rest   chunk
	due    <-chan time.Time // when the batch is to be sent; nil while it has no line
}

// chunk is what one Read returned.
type chunk struct {
	text []byte
	err  error
}

func newLive(ctx context.Context, in io.Reader) *live {
	l := &live{ctx: ctx, chunks: make(chan chunk)}
	go func() {
		for {
			buffer := make([]byte, 64<<10) // the size of a pipe of Linux
			n, err := in.Read(buffer)
			select {
			case l.chunks <- chunk{buffer[:n], err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return l
}

// Read returns what is there, and waits for it until the batch is due.
func (l *live) Read(p []byte) (int, error) {
	for len(l.rest.text) == 0 {
		if l.rest.err != nil {
			return 0, l.rest.err
		}
		if l.ctx.Err() != nil {
			return 0, errStop
		}
		select {
		case l.rest = <-l.chunks:
		case <-l.due:
			return 0, errPause
		case <-l.ctx.Done():
		}
	}
	n := copy(p, l.rest.text)
	l.rest.text = l.rest.text[n:]
	return n, nil
}
