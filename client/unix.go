package client

import (
	"net/url"
	"strings"
)

// parseUnix reads a URL that names a Unix socket: unix:///path, or unix:@name for
// an abstract one.
func parseUnix(u *url.URL) (target, error) {
	name := u.Path
	switch {
	case strings.HasPrefix(u.Opaque, "@") && len(u.Opaque) > 1:
		name = u.Opaque
	case u.Host != "" || u.Opaque != "" || len(u.Path) < 2:
		return target{}, badURL("it names no socket; write unix:///path")
	case strings.ContainsRune(name, 0):
		return target{}, badURL("the path holds a zero byte")
	}
	switch {
	case u.User != nil:
		return target{}, badURL("user and password are not supported")
	case u.RawQuery != "" || u.ForceQuery:
		return target{}, badURL("a query is not supported")
	case u.Fragment != "":
		return target{}, badURL("a fragment is not supported")
	}
	return target{scheme: u.Scheme, addr: "unix:" + name}, nil
}
