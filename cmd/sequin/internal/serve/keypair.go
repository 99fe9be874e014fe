package serve

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"sync"
	"time"
)

// recheckAfter is how long a certificate is used before its files are looked at again.
const recheckAfter = time.Minute

// keyPair is a certificate with its key. It is read again when its files change, so that a certificate can be renewed
// without a restart.
type keyPair struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex // guards the rest
	current *tls.Certificate
	version [2]time.Time // when the files of current were changed
	checked time.Time
}

// get returns the certificate for a handshake.
func (p *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.checked) < recheckAfter {
		return p.current, nil
	}
	if p.checked = time.Now(); p.modified() != p.version {
		p.readAgain()
	}
	return p.current, nil
}

// reload reads the files again now.
func (p *keyPair) reload() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checked = time.Now()
	p.readAgain()
}

// readAgain reads the files again. It requires the lock.
func (p *keyPair) readAgain() {
	if err := p.read(p.modified()); err != nil {
		p.log.Error("the changed certificate cannot be read, the one before it stays in use", "file", p.certFile, "error", err)
		return
	}
	p.log.Info("the certificate was read again", "file", p.certFile)
}

// load reads the files for the first time.
func (p *keyPair) load() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checked = time.Now()
	return p.read(p.modified())
}

// read reads the files. It requires the lock. When it fails it keeps the earlier version, so that the files are read again
// later: perhaps they are being replaced.
func (p *keyPair) read(version [2]time.Time) error {
	pair, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return err
	}
	p.current, p.version = &pair, version
	p.warn(pair.Leaf)
	return nil
}

// warn logs that clients will refuse the certificate. The server goes on: a clock may be wrong, and the files may be renewed.
func (p *keyPair) warn(leaf *x509.Certificate) {
	switch now := time.Now(); {
	case now.After(leaf.NotAfter):
		p.log.Warn("the certificate has expired, clients will refuse it: renew the files of --tls-cert and --tls-key", "file", p.certFile, "expired", leaf.NotAfter)
	case now.Before(leaf.NotBefore):
		p.log.Warn("the certificate is not valid yet, clients will refuse it", "file", p.certFile, "valid from", leaf.NotBefore)
	}
}

func (p *keyPair) modified() (version [2]time.Time) {
	for i, file := range []string{p.certFile, p.keyFile} {
		if info, err := os.Stat(file); err == nil {
			version[i] = info.ModTime()
		}
	}
	return version
}
