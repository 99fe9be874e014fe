package console

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net"
	"net/http"
	"strings"
	"time"
)

// sessionFor is how long a login counts: a working day.
const sessionFor = 12 * time.Hour

// maxCookie is the size of the largest cookie that every browser keeps, 4,096 bytes, less its name and attributes.
const maxCookie = 3800

// The cookies. Browsers send the cookies of a host to all its ports, so that names have the port, too: otherwise servers on one
// machine would replace the logins of each other.
const (
	sessionCookie = "sequin-session" // the token, sealed
	formCookie    = "sequin-form"    // the secret of the forms of this browser
	themeCookie   = "sequin-theme"
)

func cookieName(r *http.Request, name string) string {
	if _, port, err := net.SplitHostPort(r.Host); err == nil {
		return name + "-" + port
	}
	return name
}

func cookie(r *http.Request, name string) string {
	got, err := r.Cookie(cookieName(r, name))
	if err != nil {
		return ""
	}
	return got.Value
}

// setCookie sets a cookie that ends with the browser, or at once if the value is empty.
func setCookie(w http.ResponseWriter, r *http.Request, name, value string) {
	c := &http.Cookie{
		Name: cookieName(r, name), Value: value, Path: Path, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: isEncrypted(r),
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// isEncrypted reports whether the browser has used TLS. A proxy that ends TLS says so. A client that claims it gets a cookie
// that it will not send, and nothing else.
func isEncrypted(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// seal encrypts a token with the time of the login.
func (c *Console) seal(token string, at time.Time) string {
	plain := binary.BigEndian.AppendUint64(nil, uint64(at.Unix()))
	aead := c.aead()
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return base64.RawURLEncoding.EncodeToString(aead.Seal(nonce, nonce, append(plain, token...), nil))
}

// unseal returns the token of a cookie. ok is false if this server has not sealed it, or too long ago.
func (c *Console) unseal(text string, now time.Time) (token string, ok bool) {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	aead := c.aead()
	if err != nil || len(sealed) < aead.NonceSize() {
		return "", false
	}
	plain, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], nil)
	if err != nil || len(plain) < 8 {
		return "", false
	}
	begun := time.Unix(int64(binary.BigEndian.Uint64(plain)), 0)
	return string(plain[8:]), now.Sub(begun) < sessionFor
}

// aead has the key of the secret of the moment: a change of the tokens ends every login.
func (c *Console) aead() cipher.AEAD {
	key := sha256.Sum256(append([]byte("sequin console session\x00"), c.cfg.Secret()...))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has one of the lengths of AES
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // the block has the size of AES
	}
	return aead
}

// formSecret returns the secret of the forms of a browser. It makes one, which fresh says, for a browser that has none.
func formSecret(r *http.Request) (secret string, fresh bool) {
	secret = cookie(r, formCookie)
	if raw, err := base64.RawURLEncoding.DecodeString(secret); err == nil && len(raw) == formSecretSize {
		return secret, false
	}
	return newFormSecret(), true
}

const formSecretSize = 16

func newFormSecret() string {
	raw := make([]byte, formSecretSize)
	_, _ = rand.Read(raw) // never fails
	return base64.RawURLEncoding.EncodeToString(raw)
}

// formToken is the hidden field of every form of a browser. The cookie cannot be told from it, so a page that is seen gives away
// the forms of this browser only.
func formToken(secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("form"))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// fromOwnForm reports whether a page of the console made the request. It reads the form.
func fromOwnForm(r *http.Request) bool {
	secret, fresh := formSecret(r)
	return !fresh && hmac.Equal([]byte(r.PostFormValue("form_token")), []byte(formToken(secret)))
}
