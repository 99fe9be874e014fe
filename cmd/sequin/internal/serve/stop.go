package serve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// stop stops the server within the timeout. A second signal makes it return at once.
func (r *running) stop(signals <-chan os.Signal) error {
	timeout := time.NewTimer(r.cfg.ShutdownTimeout)
	defer timeout.Stop()
	done := make(chan error, 1)
	go func() { done <- r.shutDown() }()
	select {
	case err := <-done:
		return err
	case <-signals:
		return r.stopAtOnce(done)
	case <-timeout.C:
		_ = r.web.Close()
		return fmt.Errorf("the stop took longer than --shutdown-timeout, %v: the store was not closed", r.cfg.ShutdownTimeout)
	}
}

// doubled is how much later than the first signal a second one may come that was not meant as such. Some programs signal
// both a process and its group.
const doubled = 100 * time.Millisecond

// stopAtOnce ends every connection, unless the stop is about to be done.
func (r *running) stopAtOnce(done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-time.After(doubled):
		_ = r.web.Close()
		return errors.New("stopped at once by a second signal: requests that ran got no answer")
	}
}

// forStore is the part of the timeout, one in so many, that is left for closing the store.
const forStore = 5

// shutDown lets running requests finish, cuts off those that take too long, and closes the store. Until the last answer new
// requests are answered too: with 503, and so are probes of /readyz.
func (r *running) shutDown() error {
	ctx, cancel := context.WithTimeout(context.Background(), r.cfg.ShutdownTimeout-r.cfg.ShutdownTimeout/forStore)
	defer cancel()
	if r.console != nil {
		r.console.Close()
	}
	if err := r.api.Drain(ctx); err != nil {
		r.cfg.Logger.Warn("requests are cut off", "reason", err)
	}
	if err := r.web.Shutdown(ctx); err != nil {
		_ = r.web.Close()
	}
	<-r.served
	r.api.Close()
	if err := r.store.close(); err != nil {
		return fmt.Errorf("the store was not closed properly: %w", err)
	}
	r.cfg.Logger.Info("stopped")
	return nil
}
