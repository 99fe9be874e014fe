package watermillsequin_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
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

// TestAServerThatIsKilledLosesNothing runs the suite's test of reconnecting, in which the server is killed twice while a hundred
// publishers send.
func TestAServerThatIsKilledLosesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("tests.TestReconnect has a data race of its own")
	}
	dir := t.TempDir()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := free.Addr().String()
	require.NoError(t, free.Close())
	pidFile := filepath.Join(dir, "pid")
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil { // starts the server again after each kill
			cmd := exec.CommandContext(ctx, os.Args[0], addr)
			cmd.Env = append(os.Environ(), serveDirectory+"="+filepath.Join(dir, "store"))
			cmd.Stderr = os.Stderr
			if cmd.Start() == nil && os.WriteFile(pidFile, []byte(strconv.Itoa(cmd.Process.Pid)), 0o600) == nil {
				_ = cmd.Wait()
			}
		}
	}()
	defer func() { stop(); <-ended }()

	client, err := sequin.NewClient(sequin.Config{BaseURL: "http://" + addr})
	require.NoError(t, err)
	defer client.Close()
	p := profile{reconnect: true, features: tests.Features{RestartServiceCommand: []string{"sh", "-c", "kill -9 $(cat " + pidFile + ")"}}}
	p.sub.Handler.Workers = 10
	p.run(t, client)
}
