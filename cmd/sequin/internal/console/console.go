// Package console serves the pages below /console, with which a browser shows a server and acts on it.
//
// A page asks the API of its own process, with the token of the person, so a person can see and do what the token may. Pages are
// complete without a script. The one script replaces the changing part of a page by what the server sends as events.
//
// The token is in a sealed cookie that scripts cannot read, and in no page and no log. Every form has a secret of the browser
// that another site cannot know. Text of messages is written as text, and the policy of every page forbids scripts and styles
// inside it.
package console

import (
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/sequin-go/sequin/server"
)

// Path is the path of the console. All paths below it are its own, too.
const Path = "/console"

// Config configures a Console.
type Config struct {
	Version string // of the program, for people
	// Rights returns what a token may do, in constant time; nil if no token is needed, and everybody may do everything.
	Rights func(token string) server.Rights
	// Secret returns a secret of the server. Its hash is the key of the cookies. Servers behind one balancer must have the same,
	// or people have to log in at each. It is needed only with Rights.
	Secret func() []byte
	Log    *slog.Logger
}

// Console is the http.Handler of the pages. It starts no goroutine.
type Console struct {
	cfg      Config
	api      http.Handler
	mux      *http.ServeMux
	watchers watchers
	logins   loginLimit
	closed   chan struct{} // closed by Close
	close    sync.Once
	every    time.Duration // between two events of a page
}

// New returns a Console. Use must be called before its first request.
func New(cfg Config) *Console {
	c := &Console{cfg: cfg, mux: http.NewServeMux(), closed: make(chan struct{}), every: eventEvery}
	c.watchers.init()
	c.routes()
	return c
}

// Use tells the API that the pages ask.
func (c *Console) Use(api http.Handler) { c.api = api }

// Close ends the events of every open page, so that the server can stop. It may be called more than once.
func (c *Console) Close() { c.close.Do(func() { close(c.closed) }) }

// routes lists all paths.
func (c *Console) routes() {
	c.mux.HandleFunc("GET "+Path, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, home, http.StatusSeeOther) })
	c.mux.HandleFunc("GET "+Path+"/static/{version}/{file}", serveStatic)
	c.mux.HandleFunc("GET "+Path+"/login", c.showLogin)
	c.mux.HandleFunc("POST "+Path+"/login", c.login)
	c.mux.HandleFunc("POST "+Path+"/logout", c.logout)
	c.mux.HandleFunc("POST "+Path+"/theme", c.setTheme)

	const stream = Path + "/streams/{stream}"
	const consumer = stream + "/consumers/{consumer}"
	for path, show := range map[string]func(*visit) (*page, error){
		home + "{$}":        showStreams,
		stream:              showStream,
		stream + "/message": showMessage,
		consumer:            showConsumer,
	} {
		c.mux.HandleFunc("GET "+path, c.page(show))
	}
	c.mux.HandleFunc("GET "+stream+"/data", c.visited(sendData))
	for path, a := range map[string]action{
		Path + "/new-stream":     createStream,
		stream + "/new-consumer": createConsumer,
		stream + "/send":         sendMessage,
		stream + "/purge":        purgeStream,
		stream + "/delete":       deleteStream,
		consumer + "/delete":     deleteConsumer,
		consumer + "/nack":       nackMessages,
		consumer + "/redrive":    redriveLetters,
	} {
		c.mux.HandleFunc("GET "+path, c.page(a.show))
		c.mux.HandleFunc("POST "+path, c.visited(a.run))
	}
	c.mux.HandleFunc(home, c.visited(func(v *visit) error { return errNoPage }))
}

// policy forbids everything that the pages do not need: scripts, styles and images of other sites, those inside a page, and
// frames of other pages around one.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP answers the paths below Path.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Frame-Options", "DENY") // for browsers that do not know frame-ancestors
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer") // a URL has the names of streams and keys
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store") // pages and data do not stay on the disk of the browser
	r.Body = http.MaxBytesReader(w, orEmpty(r.Body), maxForm)
	c.mux.ServeHTTP(w, r)
}

// orEmpty is the body of a request that need not have come from the network.
func orEmpty(body io.ReadCloser) io.ReadCloser {
	if body == nil {
		return http.NoBody
	}
	return body
}

// maxForm is the size of the largest form: a message of the largest size that the API takes by default, 8 MB, of which the
// encoding of forms makes three times as much at most.
const maxForm = 24 << 20
