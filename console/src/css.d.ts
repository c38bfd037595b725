/** esbuild bundles the styles. */
declare module "*.css";
