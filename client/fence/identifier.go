package fence

import (
	"fmt"
	"strings"
)

const identifierBytesMax = 64

// quote makes an identifier of any checked text. Only ASCII passes: in some character sets of a connection (gbk, sjis) a byte above it
// would swallow the closing quote. Nor does a question mark: drivers that fill in arguments themselves would count it.
func quote(identifier string) (string, error) {
	if n := len(identifier); n == 0 || n > identifierBytesMax {
		return "", fmt.Errorf("%w: %d bytes, not 1 to %d", ErrIdentifier, n, identifierBytesMax)
	}
	for _, c := range []byte(identifier) {
		if c < ' ' || c > '~' || c == '?' {
			return "", fmt.Errorf("%w: %q holds %q", ErrIdentifier, identifier, c)
		}
	}
	if strings.HasSuffix(identifier, " ") {
		return "", fmt.Errorf("%w: %q ends with a space", ErrIdentifier, identifier)
	}
	return "`" + strings.ReplaceAll(identifier, "`", "``") + "`", nil
}
