package feed

import (
	"errors"
	"time"

	"github.com/sequin-go/sequin"
)

// atFault are the errors after which smaller requests are sent, until one with a single message shows which is at fault.
// ErrDuplicateKey is that of the server of 2024, which takes a key once a request.
var atFault = []error{
	sequin.ErrValidation, sequin.ErrTooLarge, sequin.ErrInvalidKey, sequin.ErrInvalidData, sequin.ErrInvalidHeaders, sequin.ErrDuplicateKey,
}

func isAtFault(err error) bool {
	for _, fault := range atFault {
		if errors.Is(err, fault) {
			return true
		}
	}
	return false
}

// deliver sends messages of a batch, one half after the other when they are refused together. It returns the error that ends
// the feed.
func (f *feed) deliver(b *batch, key string, messages []sequin.Message, lines []line) error {
	if len(messages) == 0 {
		return nil
	}
	err := f.sendOrRetry(key, messages)
	switch {
	case err == nil:
		b.sent += int64(len(messages))
		return nil
	case !isAtFault(err):
		return err
	case len(messages) == 1:
		b.refuse(lines[0], err)
		return nil
	}
	half := len(messages) / 2
	if err := f.deliver(b, key+".0", messages[:half], lines[:half]); err != nil {
		return err
	}
	return f.deliver(b, key+".1", messages[half:], lines[half:])
}

// sendOrRetry sends messages as one request. While the server is away it sends them again, if it has taken some before.
func (f *feed) sendOrRetry(key string, messages []sequin.Message) error {
	for {
		err := f.Send(f.sendCtx, key, messages)
		if err == nil {
			f.mu.Lock()
			f.alive = time.Now()
			f.mu.Unlock()
			return nil
		}
		f.mu.Lock()
		given := f.sendCtx.Err() != nil || time.Since(f.alive) > retryFor
		f.mu.Unlock()
		if given || isAtFault(err) || !sequin.IsTransient(err) {
			return err
		}
		select {
		case <-f.sendCtx.Done():
			return err
		case <-time.After(retryAfter):
		}
	}
}
