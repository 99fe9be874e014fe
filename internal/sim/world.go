package sim

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// director is the client name of the run itself. Faults do not apply to its requests.
const director = "director"

const streamName = "stream"

func consumerName(i int) string { return fmt.Sprintf("c%d", i) }

// indexOf returns the i of a consumerName.
func indexOf(consumer string) (i int) {
	_, _ = fmt.Sscanf(consumer, "c%d", &i) // its error is that of another name, which is no consumer's
	return i
}

// world is what the programs and faults of a run share: the server, the recorder and the clients.
type world struct {
	t          *testing.T
	rec        *recorder
	s          schedule
	srv        *sequintest.Server
	weather    *weather
	source     source        // of a run with sinks
	faultsOver chan struct{} // closed when the temporary faults and the schedule's programs have ended

	mu     sync.Mutex // guards all below
	down   int        // how many faults keep the server down
	taps   []*tap
	routes []*route
}

func newWorld(t *testing.T, rec *recorder) *world {
	t.Helper()
	w := &world{t: t, rec: rec, s: rec.s, weather: &weather{seed: rec.s.Seed}, faultsOver: make(chan struct{})}
	cfg := sequintest.Config{Compat: rec.s.Mode, WithoutExtensions: rec.s.Without, KeepRequests: keepRequests}
	if rec.s.Store != nil {
		cfg.Store = rec.s.Store(t, rec.s.Seed, func() { w.srv.CutConnections() })
	}
	w.srv = sequintest.NewServer(serverErrors{t, rec}, cfg)
	rec.begin = time.Now()
	return w
}

// keepRequests is more than any run makes; finish checks that nothing was dropped.
const keepRequests = 1_000_000

// serverErrors records the errors that the server reports to its test as violations, so that their schedule is shrunk too.
type serverErrors struct {
	testing.TB
	rec *recorder
}

func (e serverErrors) Errorf(format string, args ...any) {
	e.rec.violate("the server shuts down", format, args...)
}

// newTappedClient returns a client with connections of its own, and its tap. name is its User-Agent.
func (w *world) newTappedClient(name string, timeout time.Duration) (*sequin.Client, *tap) {
	way := newRoute(w.weather, w.srv.Client().Transport.(*http.Transport))
	t := newTap(w.rec, name, way)
	client, err := sequin.NewClient(sequin.Config{BaseURL: w.srv.URL, UserAgent: name, Timeout: timeout, HTTPClient: &http.Client{Transport: t}})
	if err != nil {
		w.rec.violate("a schedule is valid", "client %s: %v", name, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.taps, w.routes = append(w.taps, t), append(w.routes, way)
	return client, t
}

func (w *world) newClient(name string, timeout time.Duration) *sequin.Client {
	client, _ := w.newTappedClient(name, timeout)
	return client
}

// dropIdle closes the idle connections of all clients again and again, so that they dial, until the function that it returns
// is called.
func (w *world) dropIdle() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for ctx.Err() == nil {
			w.mu.Lock()
			routes := slices.Clone(w.routes)
			w.mu.Unlock()
			for _, r := range routes {
				r.next.CloseIdleConnections()
			}
			sleep(ctx, dropIdleEvery)
		}
	}()
	return cancel
}

// dropIdleEvery lets some requests of a busy client find an idle connection, and others none.
const dropIdleEvery = 100 * time.Millisecond

// close disconnects all clients and closes the server.
func (w *world) close() {
	w.mu.Lock()
	taps, routes := w.taps, w.routes
	w.mu.Unlock()
	for i, t := range taps {
		t.disconnect()
		routes[i].next.CloseIdleConnections()
	}
	w.srv.Close()
}

// takeDown makes the server unreachable until bringUp is called as often as takeDown, because faults may overlap.
func (w *world) takeDown() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down++; w.down == 1 {
		w.rec.outageBegan(time.Now())
		w.srv.Down()
	}
}

func (w *world) bringUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down--; w.down == 0 {
		w.srv.Up()
		w.rec.outageEnded(time.Now())
	}
}
