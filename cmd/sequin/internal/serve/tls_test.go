package serve

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
	"github.com/sequin-go/sequin/server"
)

// certificate writes a certificate for 127.0.0.1 with its key, and returns the files and the certificate.
func certificate(t *testing.T, dir, name string) (certFile, keyFile string, cert *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	return certFile, keyFile, cert
}

// ready is an output that gets what the server prints.
type ready chan string

func (r ready) Write(p []byte) (int, error) {
	r <- string(p)
	return len(p), nil
}

func TestACertificateMakesTheServerSpeakHTTPS(t *testing.T) {
	cfg := config()
	var cert *x509.Certificate
	cfg.CertFile, cfg.KeyFile, cert = certificate(t, t.TempDir(), "first")
	url, _ := runTLS(t, cfg)
	for _, http2 := range []bool{false, true} {
		resp := getTLS(t, url, cert, http2)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.Equal(t, http2, resp.ProtoMajor == 2)
	}
}

// runTLS runs a server in memory until the end of the test. The channel makes it read its files again.
func runTLS(t *testing.T, cfg Config) (url string, reload chan<- os.Signal) {
	t.Helper()
	cfg.Memory = true
	out, stop, again, ended := make(ready), make(chan os.Signal, 1), make(chan os.Signal), make(chan error, 1)
	go func() { ended <- Run(cfg, out, Signals{Stop: stop, Reload: again}) }()
	t.Cleanup(func() {
		stop <- os.Interrupt
		require.NoError(t, <-ended)
	})
	return regexp.MustCompile(`URL +(https://\S+)`).FindStringSubmatch(<-out)[1], again
}

// getTLS asks whether the server is ready, on a connection of its own.
func getTLS(t *testing.T, url string, trusted *x509.Certificate, http2 bool) *http.Response {
	t.Helper()
	roots, protocols := x509.NewCertPool(), new(http.Protocols)
	roots.AddCert(trusted)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, Protocols: protocols}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(url + "/readyz")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp
}

// TestAReloadReadsTheFilesAtOnce replaces a token and the certificate well before their files would be looked at again.
func TestAReloadReadsTheFilesAtOnce(t *testing.T) {
	cfg, dir := config(), t.TempDir()
	cfg.CertFile, cfg.KeyFile, _ = certificate(t, dir, "first")
	file := clitest.File(t, "web send s3cret-old\n")
	var err error
	cfg.Tokens, err = ReadTokens(file, cfg.Logger)
	require.NoError(t, err)
	cfg.Tokens.next.Store(math.MaxInt64) // only the reload reads it
	url, reload := runTLS(t, cfg)
	_, _, second := certificate(t, dir, "second")
	require.NoError(t, os.WriteFile(file, []byte("web send s3cret-new\n"), 0o600))
	reload <- syscall.SIGHUP
	reload <- syscall.SIGHUP // is taken when the first is done
	require.Equal(t, http.StatusOK, getTLS(t, url, second, false).StatusCode)
	require.Equal(t, server.CanSend, cfg.Tokens.Rights("s3cret-new"))
	require.Zero(t, cfg.Tokens.Rights("s3cret-old"))

	require.NoError(t, os.WriteFile(file, []byte("a b"), 0o600))
	require.NoError(t, os.WriteFile(cfg.CertFile, []byte("half"), 0o600))
	reload <- syscall.SIGHUP
	reload <- syscall.SIGHUP
	require.Equal(t, http.StatusOK, getTLS(t, url, second, false).StatusCode, "what is wrong is not used")
	require.Equal(t, server.CanSend, cfg.Tokens.Rights("s3cret-new"))
}

// TestACertificateThatClientsRefuseIsReported uses that the clock of a bubble begins in the year 2000.
func TestACertificateThatClientsRefuseIsReported(t *testing.T) {
	laterCert, laterKey, _ := certificate(t, t.TempDir(), "later")
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p := &keyPair{log: slog.New(slog.NewTextHandler(&log, nil))}
		p.certFile, p.keyFile, _ = certificate(t, t.TempDir(), "first")
		require.NoError(t, p.load())
		require.Empty(t, log.String())
		time.Sleep(2 * time.Hour)
		require.NoError(t, p.load())
		require.Contains(t, log.String(), "the certificate has expired")
		p.certFile, p.keyFile = laterCert, laterKey
		require.NoError(t, p.load())
		require.Contains(t, log.String(), "the certificate is not valid yet")
	})
}

func TestAChangedCertificateIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var log bytes.Buffer
		p := &keyPair{log: slog.New(slog.NewTextHandler(&log, nil))}
		p.certFile, p.keyFile, _ = certificate(t, dir, "first")
		require.NoError(t, p.load())
		name := func() string {
			cert, err := p.get(nil)
			require.NoError(t, err)
			return cert.Leaf.Subject.CommonName
		}
		change := func(at time.Time) {
			require.NoError(t, os.Chtimes(p.certFile, at, at))
			require.NoError(t, os.Chtimes(p.keyFile, at, at))
		}
		require.Equal(t, "first", name())
		certificate(t, dir, "second")
		change(time.Now().Add(time.Hour))
		require.Equal(t, "first", name(), "the files are looked at once a minute")
		time.Sleep(recheckAfter)
		require.Equal(t, "second", name())

		require.NoError(t, os.WriteFile(p.certFile, []byte("half"), 0o600))
		change(time.Now().Add(2 * time.Hour))
		time.Sleep(recheckAfter)
		require.Equal(t, "second", name(), "the files are being replaced")
		require.Contains(t, log.String(), "the one before it stays in use")
		certificate(t, dir, "third")
		change(time.Now().Add(2 * time.Hour)) // the time at which it could not be read
		time.Sleep(recheckAfter)
		require.Equal(t, "third", name())
	})
}
