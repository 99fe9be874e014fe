//go:build linux

package sequin_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// The scene: a process has received ten messages when it is stopped, for longer than their leases.
const (
	pausedMessages = 10
	pausedLease    = 1500 * time.Millisecond
	pauseLength    = 3 * time.Second
)

// A process may be paused: by SIGSTOP, while its virtual machine is moved, or while a laptop sleeps. During that time its
// messages are redelivered to others. After the pause it must not get any of them, except the one that it may have been
// reading. This test uses real time, because a process cannot be stopped in virtual time. No other test of this package does.
func TestAfterAPauseNothingExpiredIsDelivered(t *testing.T) {
	if url := os.Getenv("SEQUIN_PAUSED_URL"); url != "" {
		runPaused(t, url, os.Getenv("SEQUIN_PAUSED_CONSUMER"))
		return
	}
	t.Parallel()
	srv := server.New(server.Config{})
	web := httptest.NewServer(srv)
	defer func() { srv.Close(); web.Close() }()
	client, err := sequin.NewClient(sequin.Config{BaseURL: web.URL})
	require.NoError(t, err)
	defer client.Close()
	_, err = client.CreateStream(t.Context(), "orders", sequin.StreamOptions{})
	require.NoError(t, err)
	for i := range pausedMessages {
		_, err := client.SendMessage(t.Context(), "orders", fmt.Sprint("order.", i), "x")
		require.NoError(t, err)
	}
	var group sync.WaitGroup
	outs := map[string]*string{}
	for _, way := range []string{"range", "handle", "take"} {
		for i := range 3 { // which goroutine of a process runs first after the pause is up to chance
			name, out := fmt.Sprint(way, i), new(string)
			outs[name] = out
			_, err := client.CreateConsumer(t.Context(), "orders", name, ">", sequin.ConsumerOptions{AckWait: pausedLease})
			require.NoError(t, err)
			group.Go(func() { *out = pauseProcess(t, web.URL, name) })
		}
	}
	group.Wait()
	for name, out := range outs {
		_, tail, resumed := strings.Cut(*out, "resumed, late: ")
		require.True(t, resumed, "%s: %s", name, *out)
		late := 0
		_, err := fmt.Sscan(tail, &late)
		require.NoError(t, err)
		require.LessOrEqual(t, late, 1, "%s: deliveries after their deadline, of %d", name, pausedMessages)
	}
}

// pauseProcess runs the test in a process of its own, pauses the process when it is ready, and returns its output.
func pauseProcess(t *testing.T, url, consumer string) string {
	self, err := os.Executable()
	if err != nil {
		return err.Error()
	}
	child := exec.CommandContext(t.Context(), self, "-test.run=^TestAfterAPauseNothingExpiredIsDelivered$", "-test.v")
	// One processor, so that the program may run for long before the Subscriber does.
	child.Env = append(os.Environ(), "GOMAXPROCS=1", "SEQUIN_PAUSED_URL="+url, "SEQUIN_PAUSED_CONSUMER="+consumer)
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		return err.Error()
	}
	var text strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		if lines.Text() == "ready" {
			_ = child.Process.Signal(syscall.SIGSTOP)
			time.Sleep(pauseLength)
			_ = child.Process.Signal(syscall.SIGCONT)
		}
	}
	_ = child.Wait()
	return text.String()
}

// runPaused is the process: it prints how many messages it got after their deadlines.
func runPaused(t *testing.T, url, consumer string) {
	client, err := sequin.NewClient(sequin.Config{BaseURL: url})
	require.NoError(t, err)
	sub, err := client.Subscribe(t.Context(), "orders", consumer, sequin.SubscriberConfig{})
	require.NoError(t, err)
	late, paused := 0, false
	take := func(d sequin.Delivery) {
		if paused && time.Now().After(d.Deadline) {
			late++
		}
	}
	if strings.HasPrefix(consumer, "handle") {
		ctx, cancel := context.WithCancel(t.Context())
		err := sub.Handle(ctx, sequin.HandlerConfig{}, func(_ context.Context, d sequin.Delivery) error {
			if !paused {
				for sub.Stats().Received < pausedMessages {
					time.Sleep(time.Millisecond)
				}
				paused = standStill()
				time.AfterFunc(100*time.Millisecond, cancel)
			}
			take(d)
			return nil
		})
		if !errors.As(err, new(*sequin.DrainError)) {
			require.NoError(t, err)
		}
	} else {
		deliveries := sub.Deliveries()
		for sub.Stats().Received < pausedMessages {
			time.Sleep(time.Millisecond)
		}
		paused = standStill()
		if strings.HasPrefix(consumer, "take") {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			for ds, err := sub.Take(ctx, 3); err == nil; ds, err = sub.Take(ctx, 3) {
				for _, d := range ds {
					take(d)
				}
			}
		}
		for range pausedMessages {
			select {
			case d := <-deliveries:
				take(d)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	if paused {
		fmt.Println("resumed, late:", late)
	}
}

// standStill loops until the process has been paused.
func standStill() bool {
	last, end := time.Now(), time.Now().Add(20*time.Second)
	fmt.Println("ready")
	for now := last; now.Sub(last) < time.Second; now = time.Now() {
		if last = now; last.After(end) {
			return false
		}
	}
	return true
}
