package cli

import (
	"fmt"
	"os"
	"strings"
)

// TokenVariable is the environment variable with the token.
const TokenVariable = "SEQUIN_TOKEN"

// ReadToken reads the token from a file. Space around it is ignored, such as the newline at the end.
func ReadToken(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("cannot read the token file: %w", err)
	}
	return CheckToken(string(text), file)
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
