package cli

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// TokenVariable is the environment variable with the token.
const TokenVariable = "SEQUIN_TOKEN"

// largestToken is how many bytes a file with a token may have. net/http takes headers of 1 MiB.
const largestToken = 64 << 10

// ReadToken reads the token from a file. Space around it is ignored, such as the newline at the end. It refuses a file of this
// user that other users may read.
func ReadToken(file string) (string, error) {
	text, err := ReadSecret(file)
	if err != nil {
		return "", err
	}
	return CheckToken(text, file)
}

// ReadSecret reads a file with tokens. It refuses a file of this user that other users may read.
func ReadSecret(file string) (string, error) {
	text, info, err := readToken(file)
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot read the token file: %w", err)
	case OthersMayUse(info):
		return "", fmt.Errorf("other users may read the token in %s, mode %#o: run \"chmod 600 %s\", and use a new token if there are such users", file, info.Mode().Perm(), file)
	case len(text) > largestToken:
		return "", Usage("%s is too large for a token: write one line of random characters into it", file)
	}
	return string(text), nil
}

// readToken reads no more than shows that a file is too large, so that a device that never ends does no harm.
func readToken(file string) ([]byte, fs.FileInfo, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, largestToken+1))
	return text, info, err
}

// CheckToken returns the token without the space around it, if a client can send it in a header. The error does not
// contain it.
func CheckToken(text, where string) (string, error) {
	token := strings.TrimSpace(text)
	if token == "" {
		return "", Usage("there is no token in %s: write one line of random characters into it", where)
	}
	for _, r := range token {
		if r <= ' ' || r > '~' {
			return "", Usage("the token in %s cannot be sent in a header: write one line of printable ASCII characters without spaces into it", where)
		}
	}
	return token, nil
}
