package watermillsequin_test

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	watermillsequin "github.com/sequin-go/sequin/adapters/watermill"
	"github.com/sequin-go/sequin/server"
	"github.com/sequin-go/sequin/server/durable"
)

// serveDirectory names the environment variable with which the test binary is a server for a directory.
const serveDirectory = "WATERMILLSEQUIN_TEST_SERVE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveDirectory); dir != "" {
		if err := serveUntilKilled(dir, os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func serveUntilKilled(dir, addr string) error {
	store, err := durable.Open(dir, durable.Options{})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return server.New(server.Config{Store: store}).HTTPServer().Serve(listener)
}

// suiteReconnects runs Watermill's own test of reconnecting, too. It is not run otherwise, because it has a race: it counts the
// messages that it has sent on another goroutine, and fails now and then because that one is late.
var suiteReconnects = flag.Bool("suite.reconnect", false, "run TestReconnect of Watermill's suite")

// killable is a server in a process of its own, which is started again whenever it is killed.
type killable struct {
	addr, pidFile string
	stop          context.CancelFunc
	ended         chan struct{}
}

func newKillable(t *testing.T) *killable {
	t.Helper()
	dir := t.TempDir()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, free.Close())
	ctx, stop := context.WithCancel(context.Background())
	k := &killable{addr: free.Addr().String(), pidFile: filepath.Join(dir, "pid"), stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(k.ended)
		for ctx.Err() == nil {
			cmd := exec.CommandContext(ctx, os.Args[0], k.addr)
			cmd.Env = append(os.Environ(), serveDirectory+"="+filepath.Join(dir, "store"))
			cmd.Stderr = os.Stderr
			if cmd.Start() == nil && os.WriteFile(k.pidFile, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600) == nil {
				_ = cmd.Wait()
			}
		}
	}()
	t.Cleanup(func() { stop(); <-k.ended })
	return k
}

// kill is a command that kills the server.
func (k *killable) kill() []string { return []string{"sh", "-c", "kill -9 $(cat " + k.pidFile + ")"} }

// TestAServerThatIsKilledLosesNothing kills the server twice while publishers send and a subscriber acks.
func TestAServerThatIsKilledLosesNothing(t *testing.T) {
	k := newKillable(t)
	client, err := sequin.NewClient(sequin.Config{BaseURL: "http://" + k.addr})
	require.NoError(t, err)
	defer client.Close()
	if *suiteReconnects {
		p := profile{reconnect: true, features: tests.Features{RestartServiceCommand: k.kill()}}
		p.sub.Handler.Workers = 10
		p.run(t, client)
		return
	}
	pub, err := watermillsequin.NewPublisher(watermillsequin.PublisherConfig{Client: client}, nil)
	require.NoError(t, err)
	cfg := watermillsequin.SubscriberConfig{Client: client, ConsumerGroup: "group", Handler: sequin.HandlerConfig{Workers: 10}}
	sub, err := watermillsequin.NewSubscriber(cfg, nil)
	require.NoError(t, err)
	var messages <-chan *message.Message
	require.Eventually(t, func() bool {
		messages, err = sub.Subscribe(t.Context(), "topic")
		return err == nil // the server has started
	}, time.Minute, 10*time.Millisecond)

	const publishers, each = 20, 100
	var group sync.WaitGroup
	for p := range publishers {
		group.Go(func() {
			for i := range each {
				id := fmt.Sprintf("%d.%d", p, i)
				for pub.Publish("topic", message.NewMessage(id, []byte("x"))) != nil {
				}
			}
		})
	}
	missing := map[string]bool{}
	for p := range publishers {
		for i := range each {
			missing[fmt.Sprintf("%d.%d", p, i)] = true
		}
	}
	for len(missing) > 0 {
		m := <-messages
		m.Ack()
		if !missing[m.UUID] {
			continue // it came again
		}
		if delete(missing, m.UUID); len(missing) == publishers*each/3 || len(missing) == publishers*each*2/3 {
			command := k.kill()
			require.NoError(t, exec.Command(command[0], command[1:]...).Run())
		}
	}
	group.Wait()
	require.NoError(t, sub.Close())
	require.NoError(t, pub.Close())
}
