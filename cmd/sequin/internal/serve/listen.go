package serve

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
)

// listen returns the listener, unless it must not be open. loopback reports whether only this machine can reach it.
func listen(cfg *Config) (listener net.Listener, loopback bool, err error) {
	listener, err = net.Listen("tcp", cfg.Addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, false, fmt.Errorf("the address %s is in use: stop the other server, or choose another --addr", cfg.Addr)
	}
	if err != nil {
		return nil, false, fmt.Errorf("cannot listen on --addr %s: %w", cfg.Addr, err)
	}
	loopback = listener.Addr().(*net.TCPAddr).IP.IsLoopback()
	if !loopback && !cfg.hasToken() && !cfg.Insecure {
		_ = listener.Close()
		return nil, false, cli.Usage("other machines can reach --addr %s, and there is no token: give one with --token-file or $%s, listen on 127.0.0.1, or add --insecure", cfg.Addr, cli.TokenVariable)
	}
	if most := cfg.descriptors.accepted; most > 0 {
		listener = newCappedListener(listener.(*net.TCPListener), most)
	}
	return listener, loopback, nil
}

// loadKeys returns the certificate of the server, or nil for none.
func loadKeys(cfg *Config) (*keyPair, error) {
	if cfg.CertFile == "" {
		return nil, nil
	}
	pair := &keyPair{certFile: cfg.CertFile, keyFile: cfg.KeyFile, log: cfg.Logger}
	if err := pair.load(); err != nil {
		return nil, fmt.Errorf("cannot use --tls-cert %s and --tls-key %s: %w", cfg.CertFile, cfg.KeyFile, err)
	}
	return pair, nil
}
