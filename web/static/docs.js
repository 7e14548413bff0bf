// The API's description by Swagger UI, from our own files. A classic script: the bundle is one too.
/* global SwaggerUIBundle */
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger",
  deepLinking: true,
  validatorUrl: null, // the default would call a server of somebody else
  defaultModelsExpandDepth: -1,
  tryItOutEnabled: true,
});
