package postgres

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// notifyEvery is how long what changed is gathered for one NOTIFY.
const notifyEvery = 2 * time.Millisecond

// waker tells waiting receives that something has changed: those of this replica at once, those of others by NOTIFY. A
// notification may be lost: who waits looks by itself, too.
type waker struct {
	st      *Store
	channel string
	listens bool
	stopped chan struct{}

	mu    sync.Mutex // guards what follows
	noted map[string]bool
	timer *time.Timer
}

func newWaker(st *Store) *waker {
	return &waker{st: st, channel: "sequin_" + st.options.Schema, stopped: make(chan struct{}), noted: map[string]bool{}}
}

// start listens, unless the options say otherwise.
func (w *waker) start(url string) {
	if listen := w.st.options.ListenURL; listen != "" {
		url = listen
	}
	if url == "-" {
		close(w.stopped)
		return
	}
	w.listens = true
	go func() {
		defer close(w.stopped)
		w.listen(url)
	}()
}

// stop ends listening and notifying.
func (w *waker) stop() {
	<-w.stopped
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *waker) streamChanged(id int64) {
	w.tell('s', id)
	w.note("s" + strconv.FormatInt(id, 36))
}

func (w *waker) consumerChanged(id int64) {
	w.tell('c', id)
	w.note("c" + strconv.FormatInt(id, 36))
}

// tell makes the waiting receives of this replica look.
func (w *waker) tell(kind byte, id int64) {
	for _, e := range w.st.consumers.all() {
		if kind == 's' && e.row.stream.id == id || kind == 'c' && e.row.id == id {
			e.places.changed()
		}
	}
}

// note gathers what the next NOTIFY says.
func (w *waker) note(what string) {
	if !w.listens {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.noted) == 0 {
		w.timer = time.AfterFunc(notifyEvery, func() { w.st.spawn(w.notify) })
	}
	w.noted[what] = true
}

// maxPayload is a little less than the 8,000 bytes that a NOTIFY may have.
const maxPayload = 7900

// notify tells the other replicas. It is not tried again: they look by themselves.
func (w *waker) notify() {
	w.mu.Lock()
	var all []string
	size := 0
	for what := range w.noted {
		if size += len(what) + 1; size > maxPayload {
			all = []string{"*"}
			break
		}
		all = append(all, what)
	}
	w.noted = map[string]bool{}
	w.mu.Unlock()
	s, err := w.st.acquire(w.st.ctx)
	if err != nil {
		return
	}
	defer s.release()
	b := begin()
	b.Queue("select pg_notify($1, $2)", w.channel, strings.Join(all, " "))
	b.Queue("commit")
	_ = s.send(b)
}

// listen listens until the store is closed.
func (w *waker) listen(url string) {
	wait, log := backoff{}, w.st.options.Logger
	var since time.Time // when LISTEN stopped working; zero while it works
	listens := func() {
		if !since.IsZero() {
			log.Info("LISTEN works again", "after", time.Since(since).Round(time.Millisecond))
			since = time.Time{}
		}
	}
	for w.st.ctx.Err() == nil {
		begun := time.Now()
		if err := w.listenOnce(url, listens); since.IsZero() && w.st.ctx.Err() == nil {
			since = time.Now()
			log.Warn("waiting receives look every 300 ms until LISTEN works again", "error", oneLine(err))
		}
		if time.Since(begun) > time.Minute {
			wait = backoff{}
		}
		wait.next(w.st.ctx)
	}
}

// listenOnce listens over one connection until that fails. It calls listens when it works.
func (w *waker) listenOnce(url string, listens func()) error {
	conn, err := pgx.Connect(w.st.ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(w.st.ctx, "listen "+quoted(w.channel)); err != nil {
		return err
	}
	listens()
	w.received("*") // something may have changed before
	for {
		n, err := conn.WaitForNotification(w.st.ctx)
		if err != nil {
			return err
		}
		w.received(n.Payload)
	}
}

// received handles a notification.
func (w *waker) received(payload string) {
	for what := range strings.SplitSeq(payload, " ") {
		if what == "*" {
			for _, e := range w.st.consumers.all() {
				e.places.changed()
			}
			return
		}
		if id, err := strconv.ParseInt(what[min(1, len(what)):], 36, 64); err == nil {
			w.tell(what[0], id)
		}
	}
}
