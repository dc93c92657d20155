package ginquiesce

import (
	"github.com/gin-gonic/gin"

	"github.com/quiescehq/quiesce/client"
)

// Gate counts the requests of all handlers behind it and refuses new ones while the instance stops. Use it before every other middleware,
// so that what those do is counted too.
func Gate(app *client.App) gin.HandlerFunc {
	return func(c *gin.Context) {
		admitted, leave, ok := app.Admit(c.Writer, c.Request)
		if !ok {
			c.Abort()
			return
		}
		defer leave()
		c.Request = admitted
		c.Next()
	}
}

// Liveness answers 200 as long as the process can answer: for /healthz.
func Liveness(app *client.App) gin.HandlerFunc { return gin.WrapH(app.Liveness()) }

// Readiness answers 200 while new traffic is welcome: for /readyz.
func Readiness(app *client.App) gin.HandlerFunc { return gin.WrapH(app.Readiness()) }
