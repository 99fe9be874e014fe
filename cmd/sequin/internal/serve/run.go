package serve

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/sequin-go/sequin/cmd/sequin/internal/console"
	"github.com/sequin-go/sequin/server"
)

// running is a server that serves.
type running struct {
	cfg      *Config
	store    *opened
	console  *console.Console // nil without one
	api      *server.Server
	web      *http.Server
	listener net.Listener
	keys     *keyPair   // nil without TLS
	loopback bool       // only this machine can reach the listener
	served   chan error // the result of web.Serve
}

// Run serves until the first signal to stop, and then stops. It returns nil after a clean stop. It prints to out how the server
// can be used.
func Run(cfg Config, out io.Writer, signals Signals) error {
	return run(cfg, out, signals, openStore)
}

func run(cfg Config, out io.Writer, signals Signals, open func(*Config) (*opened, error)) error {
	r := &running{cfg: &cfg, served: make(chan error, 1)}
	err := cfg.setDescriptors()
	if err != nil {
		return err
	}
	if r.keys, err = loadKeys(&cfg); err != nil {
		return err
	}
	if r.listener, r.loopback, err = listen(&cfg); err != nil {
		return err
	}
	defer r.listener.Close()
	if r.store, err = openUnlessStopped(&cfg, signals.Stop, open); err != nil {
		return err
	}
	r.build()
	go r.serve()
	r.printUsage(out)
	notifySystemd(&cfg, "READY=1")
	for {
		select {
		case err := <-r.served:
			return errors.Join(err, r.store.close())
		case <-r.store.failed:
			cfg.Logger.Error("the store has failed, the server stops", "error", r.store.err())
			_ = r.stop(signals.Stop)
			return fmt.Errorf("the store has failed: %w", r.store.err())
		case s := <-signals.Stop:
			cfg.Logger.Info("stopping", "signal", s.String(), "timeout", cfg.ShutdownTimeout)
			notifySystemd(&cfg, "STOPPING=1")
			return r.stop(signals.Stop)
		case <-signals.Reload:
			r.reload()
		}
	}
}

// reload reads the files of the tokens and of the certificate again, also if they look unchanged.
func (r *running) reload() {
	if r.cfg.Tokens != nil {
		r.cfg.Tokens.reload()
	}
	if r.keys != nil {
		r.keys.reload()
	}
}

// openUnlessStopped opens the store, which may take long. A signal meanwhile ends the process: nothing has been served yet.
func openUnlessStopped(cfg *Config, signals <-chan os.Signal, open func(*Config) (*opened, error)) (*opened, error) {
	type result struct {
		store *opened
		err   error
	}
	done := make(chan result, 1)
	go func() {
		store, err := open(cfg)
		done <- result{store, err}
	}()
	select {
	case r := <-done:
		return r.store, r.err
	case s := <-signals:
		return nil, fmt.Errorf("stopped by %v while the store was being opened", s)
	}
}

// newConsole makes the console of a server with these tokens.
func newConsole(cfg *Config) *console.Console {
	c := console.Config{Version: cfg.Version, Log: cfg.Logger}
	if cfg.hasToken() {
		c.Rights, c.Secret = cfg.rights, cfg.secret
	}
	return console.New(c)
}

// build makes the server, its metrics and its console.
func (r *running) build() {
	m := newMetrics(r.cfg.Version, r.cfg.Logger)
	c := server.Config{
		Compat:       r.cfg.Compat,
		Logger:       r.cfg.Logger,
		Limits:       r.cfg.Limits,
		LoopbackOnly: r.loopback && !r.cfg.hasToken(),
		Metrics:      m.handler(),
		OpenMetrics:  r.loopback,
		OnRequest:    m.observe,
	}
	if r.cfg.hasToken() {
		c.Access = r.cfg.rights
	}
	r.store.use(&c)
	if r.cfg.Console {
		r.console = newConsole(r.cfg)
		c.Console = r.console
	}
	r.api = server.New(c)
	if r.console != nil {
		r.console.Use(r.api)
	}
	m.watch(r.api, r.store.slow)
	if r.store.watch != nil {
		r.store.watch(m)
	}
	r.web = r.api.HTTPServer()
	if r.keys != nil {
		r.web.TLSConfig = &tls.Config{GetCertificate: r.keys.get}
	}
}

func (r *running) serve() {
	if r.keys != nil {
		r.served <- r.web.ServeTLS(r.listener, "", "") // the files are those of the configuration
		return
	}
	r.served <- r.web.Serve(r.listener)
}
