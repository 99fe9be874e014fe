package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/internal/pgcluster"
)

// haproxy returns the path of HAProxy, which .ci/run makes sure of.
func haproxy(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("haproxy")
	if err != nil {
		require.Empty(t, os.Getenv("CI"), "haproxy is not installed")
		t.Skip("haproxy is not installed")
	}
	return path
}

// balance runs the load balancer of deploy in front of two servers, and returns its URL.
func balance(t *testing.T, urls ...string) string {
	t.Helper()
	var servers strings.Builder
	for i, url := range urls {
		fmt.Fprintf(&servers, "\tserver s%d %s\n", i, strings.TrimPrefix(url, "http://"))
	}
	const template, bind = "\tserver-template sequin 8 sequin:7376 resolvers docker\n", "\tbind :7376\n"
	text := readDeploy(t, "haproxy.cfg")
	require.Equal(t, 2, strings.Count(text, template))
	require.Equal(t, 1, strings.Count(text, bind))
	text = strings.NewReplacer(template, servers.String(), bind, "\tbind fd@3\n").Replace(text)
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	socket, err := listener.(*net.TCPListener).File()
	require.NoError(t, err)
	defer socket.Close()
	cmd := exec.Command(haproxy(t), "-db", "-f", file)
	cmd.ExtraFiles = []*os.File{socket}
	var said bytes.Buffer
	cmd.Stderr = &said
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	return "http://" + listener.Addr().String()
}

// ride is a load that goes on while servers die.
type ride struct {
	t      *testing.T
	client *sequin.Client

	mu        sync.Mutex // guards what follows
	confirmed int
	delivered map[string]int
	last      [2]time.Time // when a send was confirmed, and when a message was delivered
	longest   [2]time.Duration
}

const (
	aSend = iota
	aDelivery
)

// count notes a confirmed send, or a delivery.
func (r *ride) count(what int, key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if !r.last[what].IsZero() {
		r.longest[what] = max(r.longest[what], now.Sub(r.last[what]))
	}
	r.last[what] = now
	if what == aSend {
		r.confirmed++
	} else {
		r.delivered[key]++
	}
}

// goOn waits until n more sends are confirmed, and logs the longest pauses of the clients meanwhile.
func (r *ride) goOn(n int, after string) {
	r.t.Helper()
	state := func() (int, [2]time.Duration) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.confirmed, r.longest
	}
	until, _ := state()
	until += n
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		confirmed, longest := state()
		if confirmed >= until {
			r.t.Logf("%s: longest pause between confirmed sends %v, between deliveries %v", after, longest[aSend].Round(time.Millisecond), longest[aDelivery].Round(time.Millisecond))
			break
		}
		require.Less(r.t, time.Since(begin), patience, "the load stands still after %s", after)
	}
	r.mu.Lock()
	r.longest = [2]time.Duration{}
	r.mu.Unlock()
}

// send sends messages one after the other until ctx ends, and returns how many.
func (r *ride) send(ctx context.Context, sender int) (sent int) {
	pub, err := r.client.NewPublisher("orders", sequin.PublisherConfig{})
	if !assert.NoError(r.t, err) {
		return 0
	}
	for ctx.Err() == nil {
		key := fmt.Sprintf("orders.%d.%d", sender, sent)
		sent++
		receipt, err := pub.SendReceipt(context.Background(), sequin.Message{Key: key, Data: "data"})
		if !assert.NoError(r.t, err) {
			break
		}
		err = receipt.Wait(context.Background())
		if !assert.NoError(r.t, err, "no outage is reported to the program") {
			break
		}
		r.count(aSend, key)
	}
	assert.NoError(r.t, pub.Close(context.Background()))
	return sent
}

// receive acks what comes until ctx ends.
func (r *ride) receive(ctx context.Context) {
	sub, err := r.client.Subscribe(ctx, "orders", "billing", sequin.SubscriberConfig{})
	if !assert.NoError(r.t, err) {
		return
	}
	for d := range sub.Deliveries() {
		r.count(aDelivery, d.Key)
		_ = d.Ack() // an ack that fails lets the message come again
	}
	_ = sub.Close(context.Background())
}

// TestClientsRideOverTheDeathOfAServerAndOfTheDatabase kills one of two servers behind the load balancer, and crashes the
// database, while clients send and receive. No call fails, nothing is lost, and nothing is stored twice.
func TestClientsRideOverTheDeathOfAServerAndOfTheDatabase(t *testing.T) {
	haproxy(t)
	postgresForTest(t)
	cluster, err := pgcluster.New()
	require.NoError(t, err)
	defer cluster.Close()
	require.NoError(t, cluster.Run())
	env := []string{postgresVariable + "=" + cluster.URL(), "SEQUIN_TOKEN=0123456789abcdef", "SEQUIN_ADDR=127.0.0.1:0"}
	one, two := startChild(t, env, "serve"), startChild(t, env, "serve")
	client, err := sequin.NewClient(sequin.Config{BaseURL: balance(t, one.url, two.url), Token: "0123456789abcdef"})
	require.NoError(t, err)
	defer client.Close()
	require.Eventually(t, func() bool { _, err := client.Ping(t.Context()); return err == nil }, patience, 10*time.Millisecond)
	_, err = client.CreateStream(t.Context(), "orders", sequin.StreamOptions{})
	require.NoError(t, err)
	_, err = client.CreateConsumer(t.Context(), "orders", "billing", ">", sequin.ConsumerOptions{AckWait: 2 * time.Second})
	require.NoError(t, err)

	r := &ride{t: t, client: client, delivered: map[string]int{}}
	sending, stopSending := context.WithCancel(t.Context())
	receiving, stopReceiving := context.WithCancel(t.Context())
	var senders, receivers sync.WaitGroup
	var sent [4]int
	for i := range sent {
		senders.Go(func() { sent[i] = r.send(sending, i) })
	}
	receivers.Go(func() { r.receive(receiving) })
	r.goOn(100, "the start")
	require.NoError(t, one.Process.Kill())
	r.goOn(150, "kill -9 of a server")
	require.NoError(t, cluster.Crash())
	require.NoError(t, cluster.Run())
	r.goOn(150, "a crash of Postgres")
	stopSending()
	senders.Wait()

	total := sent[0] + sent[1] + sent[2] + sent[3]
	require.Eventually(t, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.delivered) == total }, patience, 10*time.Millisecond, "nothing is lost")
	stopReceiving()
	receivers.Wait()
	info, err := client.GetStream(t.Context(), "orders")
	require.NoError(t, err)
	require.EqualValues(t, total, info.Stats.MessageCount, "nothing is stored twice")
}
