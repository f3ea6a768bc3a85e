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
	// everywhere means all namespaces in a token file.
	everywhere = "*"
	// minToken is the least length of a token: a shorter one is a typing error, or can be guessed.
	minToken = 16
	// checkEvery is the least interval at which a token file is checked for changes.
	checkEvery = time.Second
)

// Tokens are the bearer tokens that may report, each with its namespaces. They are read
// from a file, and again when it has changed, with one token on each line:
//
//	# the token, and its namespaces
//	0123456789abcdef   asr,llm
//	fedcba9876543210   *
type Tokens struct {
	path   string
	logger *slog.Logger

	mu      sync.Mutex
	checked time.Time
	file    os.FileInfo
	byHash  map[[sha256.Size]byte][]string
	peer    string
	failed  string // why the last reading failed
}

// ReadTokens reads the file. An error of a later reading goes to the logger.
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

// namespaces returns the namespaces of a token; nil if it is unknown. The tokens remain
// valid while the file cannot be read.
func (t *Tokens) namespaces(token string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); now.Sub(t.checked) >= checkEvery {
		t.checked = now
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
		t.logger.Error("the tokens cannot be read again; those of the last reading remain valid, also if they were revoked", "err", failed)
	}
	t.failed = failed
}

// Peer returns a token for all namespaces, with which the replicas of a scaler report to
// each other; empty if there is none.
func (t *Tokens) Peer() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.peer
}

// covers reports whether the namespaces of a caller include this one.
func covers(namespaces []string, namespace string) bool {
	return slices.Contains(namespaces, namespace) || slices.Contains(namespaces, everywhere)
}
