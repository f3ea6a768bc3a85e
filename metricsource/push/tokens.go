package push

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// everywhere stands for all namespaces in a token file.
	everywhere = "*"
	// minToken is the length below which a token is a typing error, or a guess away.
	minToken = 16
	// lookEvery is how often a token file is looked at, at most.
	lookEvery = time.Second
)

// Tokens are the bearer tokens that may report, and for which namespaces. They are
// read from a file, and again when it has changed; a token stands on each line:
//
//	# the token, and its namespaces
//	0123456789abcdef   asr,llm
//	fedcba9876543210   *
type Tokens struct {
	path   string
	logger *slog.Logger

	mu     sync.Mutex
	looked time.Time
	file   os.FileInfo
	byHash map[[sha256.Size]byte][]string
	peer   string
	failed string // why the file could not be read again
}

// ReadTokens reads the file. That it cannot be read again goes to the logger.
func ReadTokens(path string, logger *slog.Logger) (*Tokens, error) {
	t := &Tokens{path: path, logger: logger}
	if err := t.read(); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Tokens) read() error {
	file, err := os.Stat(t.path)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(t.path)
	if err != nil {
		return err
	}
	byHash, peer := map[[sha256.Size]byte][]string{}, ""
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) != 2 || len(fields[0]) < minToken {
			return fmt.Errorf("%s, line %d: wanted: a token of at least %d bytes, and its namespaces, separated by commas, or *", t.path, n, minToken)
		}
		namespaces := strings.Split(fields[1], ",")
		byHash[sha256.Sum256([]byte(fields[0]))] = namespaces
		if peer == "" && slices.Contains(namespaces, everywhere) {
			peer = fields[0]
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", t.path, err)
	}
	if len(byHash) == 0 {
		return fmt.Errorf("%s holds no token", t.path)
	}
	t.file, t.byHash, t.peer = file, byHash, peer
	return nil
}

// namespaces returns those that the token may report for; nil if it is none. A file
// that cannot be read any more leaves the tokens as they were.
func (t *Tokens) namespaces(token string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); now.Sub(t.looked) >= lookEvery {
		t.looked = now
		t.readAgain()
	}
	return t.byHash[sha256.Sum256([]byte(token))]
}

// readAgain reads the file if it has changed.
func (t *Tokens) readAgain() {
	file, err := os.Stat(t.path)
	if err == nil && file.ModTime().Equal(t.file.ModTime()) && file.Size() == t.file.Size() {
		t.failed = ""
		return
	}
	failed := ""
	if err = t.read(); err != nil {
		failed = err.Error()
	}
	switch {
	case failed == "":
		t.logger.Info("the tokens were read again", "file", t.path, "tokens", len(t.byHash))
	case failed != t.failed:
		t.logger.Error("the tokens cannot be read again; those read last stand, also any that were taken back", "err", failed)
	}
	t.failed = failed
}

// Peer is a token for all namespaces, by which the replicas of a scaler know each
// other; empty if there is none.
func (t *Tokens) Peer() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.peer
}

// covers reports whether a namespace is one of those that a caller may report for.
func covers(namespaces []string, namespace string) bool {
	return slices.Contains(namespaces, namespace) || slices.Contains(namespaces, everywhere)
}
