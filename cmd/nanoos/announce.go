package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// announcement is how clients of this machine find the running server.
type announcement struct {
	URL       string `json:"url"`
	PID       int    `json:"pid"`
	TokenFile string `json:"token_file,omitempty"`
}

const announcementFile = "server.json"

func (s *serving) announce() error {
	ad := announcement{URL: s.url(), PID: os.Getpid()}
	if s.token != "" {
		ad.TokenFile = s.cfg.tokenPath()
	}
	raw, err := json.Marshal(ad)
	if err != nil {
		return err
	}
	path := filepath.Join(s.cfg.Data, announcementFile)
	if err := os.WriteFile(path+".tmp", append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("announce the server: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("announce the server: %w", err)
	}
	return nil
}

func (s *serving) withdraw() {
	if err := os.Remove(filepath.Join(s.cfg.Data, announcementFile)); err != nil {
		s.log.Warn("cannot withdraw the announcement", "error", err)
	}
}

// loadToken returns the token that is kept in a file, made at the first start.
func loadToken(path string) (token string, fresh bool, err error) {
	raw, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(raw)), false, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", false, fmt.Errorf("read the token: %w", err)
	}
	token = "nos_" + rand.Text() + rand.Text()
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		return "", false, fmt.Errorf("store the token: %w", err)
	}
	return token, true, nil
}
