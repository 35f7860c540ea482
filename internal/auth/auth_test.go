package auth

import (
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestT18_ASecretFindsItsTokenAndNothingElseDoes(t *testing.T) {
	t.Parallel()
	token, secret := New(Worker, "cluster", []string{"night"}, now, now.Add(time.Hour))
	other, otherSecret := New(Admin, "me", nil, now, time.Time{})
	k := NewKeyring([]Token{token, other})
	for _, want := range []struct {
		secret string
		id     string
	}{
		{secret, token.ID}, {otherSecret, other.ID}, {"", ""}, {token.ID, ""}, {token.Digest, ""}, {secret + "x", ""}, {secret[:len(secret)-1], ""},
		{"nos_" + token.ID + "_", ""}, {"nos_" + token.ID + "_" + strings.SplitN(otherSecret, "_", 3)[2], ""}, {strings.ToUpper(secret), ""}, {noDigest, ""},
		{"nos_unknown_" + strings.Repeat("A", 26), ""},
	} {
		got, ok := k.Find(want.secret, now)
		if got.ID != want.id || ok != (want.id != "") {
			t.Errorf("%q finds %q, %v; want %q", want.secret, got.ID, ok, want.id)
		}
	}
	if strings.Contains(token.Digest, secret) || strings.Contains(secret, token.Digest) {
		t.Error("the secret is stored")
	}
}

func TestT19_ATokenEndsWhenItExpiresOrIsRevoked(t *testing.T) {
	t.Parallel()
	token, secret := New(Worker, "cluster", nil, now, now.Add(time.Hour))
	find := func(at time.Time) bool { _, ok := NewKeyring([]Token{token}).Find(secret, at); return ok }
	if !find(now) || !find(now.Add(time.Hour-1)) || find(now.Add(time.Hour)) {
		t.Error("it does not end when it expires")
	}
	token.RevokedAt = now
	if find(now) {
		t.Error("it is valid after it was revoked")
	}
}

func TestRolesDoWhatTheyAreForAndNoMore(t *testing.T) {
	t.Parallel()
	for _, a := range []Action{Public, Use, Manage, Work} {
		if !Admin.May(a) || Worker.May(a) != (a == Work || a == Public) || Role("other").May(a) {
			t.Errorf("%s: admin %v, worker %v", a, Admin.May(a), Worker.May(a))
		}
	}
	if Admin.May("") || Worker.May("") || Role("").Known() || !Worker.Known() {
		t.Error("what is not listed is permitted")
	}
}
