package serve

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

func config() Config {
	return Config{
		Addr: "127.0.0.1:0", ShutdownTimeout: time.Minute, Logger: slog.New(slog.DiscardHandler),
		Lookup: func(string) (string, bool) { return "", false },
	}
}

// storeThatFails is a store in memory that says that it has failed when the channel is closed.
func storeThatFails(failed <-chan struct{}, closed *error) func(*Config) (*opened, error) {
	return func(*Config) (*opened, error) {
		return &opened{
			use:    func(*server.Config) {},
			failed: failed,
			err:    func() error { return errors.New("bad sector") },
			close:  func() error { return *closed },
		}, nil
	}
}

// interrupter is an output that interrupts the server when it says that it is ready.
type interrupter chan os.Signal

func (i interrupter) Write(p []byte) (int, error) {
	i <- os.Interrupt
	return len(p), nil
}

func TestAStoreThatFailsEndsTheServer(t *testing.T) {
	failed := make(chan struct{})
	close(failed)
	err := run(config(), io.Discard, Signals{}, storeThatFails(failed, new(error)))
	require.EqualError(t, err, "the store has failed: bad sector")
}

func TestAStoreThatCannotBeClosedMakesTheStopFail(t *testing.T) {
	signals := make(chan os.Signal, 1)
	cause := errors.New("disk full")
	err := run(config(), interrupter(signals), Signals{Stop: signals}, storeThatFails(nil, &cause))
	require.ErrorIs(t, err, cause)
	require.ErrorContains(t, err, "the store was not closed properly")
}

func TestAStoreThatHangsDoesNotKeepTheStopForLongerThanItsTimeout(t *testing.T) {
	signals := make(chan os.Signal, 1)
	hang := make(chan struct{})
	defer close(hang)
	cfg := config()
	cfg.ShutdownTimeout = 10 * time.Millisecond
	err := run(cfg, interrupter(signals), Signals{Stop: signals}, func(*Config) (*opened, error) {
		return &opened{use: func(*server.Config) {}, close: func() error { <-hang; return nil }}, nil
	})
	require.ErrorContains(t, err, "the stop took longer than --shutdown-timeout, 10ms")
}

func TestASignalEndsTheOpeningOfAStore(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signals <- os.Interrupt
	hang := make(chan struct{})
	defer close(hang)
	err := run(config(), io.Discard, Signals{Stop: signals}, func(*Config) (*opened, error) { <-hang; return nil, nil })
	require.EqualError(t, err, "stopped by interrupt while the store was being opened")
}
