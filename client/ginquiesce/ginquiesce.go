package ginquiesce

import (
	"reflect"
	"runtime"

	"github.com/gin-gonic/gin"

	"github.com/quiescehq/quiesce/client"
)

// Gate counts the requests of all handlers behind it, refuses new ones while the instance stops, and those that write while its service is
// read-only (see [Reads]). Use it before every other middleware, so that what those do is counted too.
func Gate(app *client.App) gin.HandlerFunc {
	return func(c *gin.Context) {
		route := client.Route{Pattern: c.FullPath(), Reads: app.ReadOnly() && declaredReading(c)}
		admitted, leave, ok := app.Admit(c.Writer, c.Request, route)
		if !ok {
			c.Abort()
			return
		}
		defer leave()
		c.Request = admitted
		c.Next()
	}
}

// Reads marks a route that only reads although its method is one that writes, so that it is served while the service is read-only. Put it
// among the route's handlers, or those of its group; it does nothing by itself:
//
//	r.POST("/search", ginquiesce.Reads, search)
func Reads(*gin.Context) {}

// readsName is how Gin names the mark.
var readsName = runtime.FuncForPC(reflect.ValueOf(Reads).Pointer()).Name()

// declaredReading looks for the mark among the handlers of the request, which the gate comes before.
func declaredReading(c *gin.Context) bool {
	for _, name := range c.HandlerNames() {
		if name == readsName {
			return true
		}
	}
	return false
}

// Class puts the handlers behind it into a class of work: a deadline for the request's context, a limit of what is in flight, and a
// breaker if the class has one. Use it after Gate, for a group or a route:
//
//	r.POST("/pay", ginquiesce.Class(app.Class(client.ClassExternal, 0)), pay)
func Class(class *client.Class) gin.HandlerFunc {
	return func(c *gin.Context) {
		admitted, done, ok := class.Admit(c.Writer, c.Request)
		if !ok {
			c.Abort()
			return
		}
		status := 0 // what a panic leaves it at
		defer func() { done(status) }()
		before := c.Request
		c.Request = admitted
		c.Next()
		c.Request = before // for those outside: this one's context is over
		status = c.Writer.Status()
	}
}

// Liveness answers 200 as long as the process can answer: for /healthz.
func Liveness(app *client.App) gin.HandlerFunc { return gin.WrapH(app.Liveness()) }

// Readiness answers 200 while new traffic is welcome: for /readyz.
func Readiness(app *client.App) gin.HandlerFunc { return gin.WrapH(app.Readiness()) }
