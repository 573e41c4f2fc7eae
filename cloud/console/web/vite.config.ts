import { defineConfig } from 'vite'
import { svelte } from '@sveltejs/vite-plugin-svelte'

// The hub serves the page and its data from one address; `npm run dev` asks a
// hub that runs beside it.
const hub = 'http://127.0.0.1:8080'

export default defineConfig({
  plugins: [svelte()],
  base: './',
  build: { outDir: '../dist', emptyOutDir: true, assetsInlineLimit: 0, modulePreload: false, target: 'es2022' },
  server: { proxy: { '/api': hub } },
})
