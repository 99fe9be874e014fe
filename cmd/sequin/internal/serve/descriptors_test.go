package serve

import (
	"bytes"
	"log/slog"
	"math"
	"net"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestDescriptorsAreKeptBackForTheStore(t *testing.T) {
	for _, tt := range []struct {
		limit       uint64
		connections int
		want        descriptors
		err         string
	}{
		{0, 10_000, descriptors{segments: 256, served: 10_000}, ""}, // a system without a limit
		{1 << 63, 10_000, descriptors{segments: 256, accepted: 1<<30 - 288, served: 10_000}, ""},
		{65_536, 10_000, descriptors{segments: 256, accepted: 65_248, served: 10_000}, ""},
		{1024, 10_000, descriptors{segments: 256, accepted: 736, served: 644}, ""},
		{1024, 100, descriptors{segments: 256, accepted: 736, served: 100}, ""},
		{64, 10_000, descriptors{segments: 16, accepted: 16, served: 14}, ""},
		{53, 10_000, descriptors{segments: 13, accepted: 8, served: 7}, ""},
		{52, 10_000, descriptors{}, `the process may open 52 files, which are too few for the store and 8 connections: allow more, with "ulimit -n 1024" in a shell or LimitNOFILE= in a systemd unit`},
	} {
		got, err := divide(tt.limit, tt.connections)
		if tt.err != "" {
			require.EqualError(t, err, tt.err)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, tt.want, got)
	}
}

func TestALoweredLimitOfConnectionsIsLogged(t *testing.T) {
	limit := descriptorLimit()
	if limit == 0 {
		t.Skip("the system has no limit of open files")
	}
	var log bytes.Buffer
	cfg := config()
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	cfg.Limits.Connections = 10
	require.NoError(t, cfg.setDescriptors())
	require.Empty(t, log.String())
	cfg.Limits.Connections = math.MaxInt32
	require.NoError(t, cfg.setDescriptors())
	require.Contains(t, log.String(), "the limit of open files allows fewer connections than --max-connections")
	require.Less(t, cfg.Limits.Connections, math.MaxInt32)
}

func TestACappedListenerAcceptsAgainWhenAConnectionIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		l := newCappedListener(inner.(*net.TCPListener), 1)
		defer l.Close()
		dial := func() {
			conn, err := net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			t.Cleanup(func() { conn.Close() })
		}
		dial()
		dial()
		first, err := l.Accept()
		require.NoError(t, err)
		_, half := first.(interface{ CloseWrite() error })
		require.True(t, half, "net/http asks for it")

		next := make(chan net.Conn, 1)
		accept := func() {
			conn, _ := l.Accept()
			next <- conn
		}
		go accept()
		synctest.Wait()
		require.Empty(t, next)
		require.NoError(t, first.Close())
		require.Error(t, first.Close(), "it makes room once")
		second := <-next
		require.NotNil(t, second)
		defer second.Close()

		go accept()
		synctest.Wait()
		require.Empty(t, next)
		require.NoError(t, l.Close())
		require.Nil(t, <-next)
	})
}
