package sequintest_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sequin-go/sequin/sequintest"
)

// BenchmarkTransport measures a request and its answer with net/http, over the in-memory connection and over loopback TCP.
func BenchmarkTransport(b *testing.B) {
	for _, size := range []struct {
		name string
		data int
	}{{"100B", 100}, {"100KiB", 100 << 10}, {"1MiB", 1 << 20}} {
		b.Run("memory/"+size.name, func(b *testing.B) {
			srv := newOrders(b, sequintest.Config{KeepRequests: -1})
			exchange(b, api{srv.Client(), srv.URL}, size.data)
		})
		b.Run("TCP/"+size.name, func(b *testing.B) {
			srv := newOrders(b, sequintest.Config{KeepRequests: -1})
			exchange(b, api{&http.Client{Transport: &http.Transport{}}, srv.Listen()}, size.data)
		})
	}
}

// exchange asks for a stream that does not exist, so that the server does little work.
func exchange(b *testing.B, a api, size int) {
	body := strings.Repeat(" ", size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		if status, _, err := a.do("POST", "/api/streams/nowhere", body); err != nil || status != http.StatusNotFound {
			b.Fatal(status, err)
		}
	}
	a.client.CloseIdleConnections()
}

// BenchmarkConnection measures the connection without HTTP, with writes of 32 KiB.
func BenchmarkConnection(b *testing.B) {
	dialTCP := func(b *testing.B) (client, server net.Conn) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		client, err = net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		server, err = l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		return client, server
	}
	for name, pair := range map[string]func(*testing.B) (net.Conn, net.Conn){
		"memory": func(*testing.B) (net.Conn, net.Conn) { return sequintest.ConnPair() },
		"TCP":    dialTCP,
	} {
		b.Run(name, func(b *testing.B) {
			client, server := pair(b)
			drained := make(chan struct{})
			go func() {
				_, _ = io.Copy(io.Discard, server)
				close(drained)
			}()
			chunk := make([]byte, 32<<10)
			b.SetBytes(int64(len(chunk)))
			for b.Loop() {
				if _, err := client.Write(chunk); err != nil {
					b.Fatal(err)
				}
			}
			_ = client.Close()
			<-drained
			_ = server.Close()
		})
	}
}
