package serve

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/server"
)

// tokensFor is how long the tokens are used before their file is looked at again.
const tokensFor = time.Second

// Tokens are the tokens of a file. The file is read again when it changes, so that a token can be replaced without a restart.
type Tokens struct {
	file string
	log  *slog.Logger

	known atomic.Pointer[[]namedToken]
	next  atomic.Int64 // when the file is looked at again, in Unix nanoseconds

	mu      sync.Mutex // guards what follows
	version fileVersion
	problem string // why the file cannot be used, as the log says it; "" if it can
}

type namedToken struct {
	name   string // "" for the only token of a file that has nothing else
	rights server.Rights
	sum    [sha256.Size]byte
}

type fileVersion struct {
	changed time.Time
	size    int64
}

// ReadTokens reads a file with one token, which may do everything, or with lines of a name, rights and a token.
func ReadTokens(file string, log *slog.Logger) (*Tokens, error) {
	t := &Tokens{file: file, log: log}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next.Store(time.Now().Add(tokensFor).UnixNano())
	return t, t.read(t.onDisk())
}

// read reads the file. It requires the lock. After an error the file counts as not read, because it may be being written.
func (t *Tokens) read(version fileVersion) error {
	text, err := cli.ReadSecret(t.file)
	if err != nil {
		return err
	}
	known, err := parseTokens(text, t.file)
	if err != nil {
		return err
	}
	t.known.Store(&known)
	t.version = version
	return nil
}

func (t *Tokens) onDisk() (v fileVersion) {
	if info, err := os.Stat(t.file); err == nil {
		v = fileVersion{info.ModTime(), info.Size()}
	}
	return v
}

// Rights returns what a token may do. The time that it takes depends on the number of tokens only.
func (t *Tokens) Rights(token string) server.Rights {
	if now := time.Now().UnixNano(); now >= t.next.Load() && t.mu.TryLock() {
		t.refresh(now)
		t.mu.Unlock()
	}
	rights, sum := 0, sha256.Sum256([]byte(token))
	for _, known := range *t.known.Load() {
		rights |= subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(sum[:], known.sum[:]), int(known.rights), 0)
	}
	return server.Rights(rights)
}

// sums returns the hashes of all tokens, one after the other.
func (t *Tokens) sums() (all []byte) {
	for _, known := range *t.known.Load() {
		all = append(all, known.sum[:]...)
	}
	return all
}

// refresh reads the file again if it has changed. It requires the lock.
func (t *Tokens) refresh(now int64) {
	t.next.Store(now + int64(tokensFor))
	if t.onDisk() != t.version {
		t.readAgain()
	}
}

// reload reads the file again now.
func (t *Tokens) reload() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.problem = "" // who sends SIGHUP is told each time
	t.readAgain()
}

// readAgain reads the file again. It requires the lock.
func (t *Tokens) readAgain() {
	if err := t.read(t.onDisk()); err != nil {
		if err.Error() == t.problem {
			return // the file is read again each second, and the log says it once
		}
		t.problem = err.Error()
		t.log.Error("the changed token file cannot be used, the tokens before it stay in use", "file", t.file, "error", err)
		return
	}
	t.problem = ""
	t.log.Info("the token file was read again", "file", t.file, "tokens", len(*t.known.Load()))
}

// single reports whether the file has nothing but a token.
func (t *Tokens) single() bool {
	known := *t.known.Load()
	return len(known) == 1 && known[0].name == ""
}

// errTokenLine says what a line with several tokens must be.
var errTokenLine = errors.New("write one line with a token, or lines with a name, rights and a token: rights are read, send, consume and admin, with commas between them")

// parseTokens reads the text of a token file. Its errors do not contain the tokens.
func parseTokens(text, file string) (known []namedToken, err error) {
	var words [][]string
	var numbers []int
	number := 0
	for line := range strings.Lines(text) {
		number++
		if fields := strings.Fields(line); len(fields) > 0 && fields[0][0] != '#' {
			words, numbers = append(words, fields), append(numbers, number)
		}
	}
	if len(words) <= 1 && (len(words) == 0 || len(words[0]) != 3) {
		token, err := cli.CheckToken(text, file)
		return []namedToken{{"", server.AllRights, sha256.Sum256([]byte(token))}}, err
	}
	for i, fields := range words {
		problem := ""
		n := namedToken{}
		if len(fields) != 3 {
			problem = errTokenLine.Error()
		} else if rights, ok := server.ParseRights(fields[1]); !ok {
			problem = errTokenLine.Error()
		} else if _, err := cli.CheckToken(fields[2], file); err != nil {
			return nil, err
		} else {
			n = namedToken{fields[0], rights, sha256.Sum256([]byte(fields[2]))}
		}
		for _, other := range known {
			if problem == "" && (other.name == n.name || other.sum == n.sum) {
				problem = "the name or the token is that of another line"
			}
		}
		if problem != "" {
			return nil, cli.Usage("%s, line %d: %s", file, numbers[i], problem)
		}
		known = append(known, n)
	}
	return known, nil
}

// names returns the names of the tokens for people.
func (t *Tokens) names() string {
	var names []string
	for _, n := range *t.known.Load() {
		names = append(names, fmt.Sprintf("%s (%v)", n.name, n.rights))
	}
	return strings.Join(names, ", ")
}
